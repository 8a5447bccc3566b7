"""The distance between two sets of clips: the Fréchet distance of their features, with an interval."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .models import IMAGENET, Weights, center, fill, normalized, shorter_side

INCEPTION_PX, INCEPTION_CLASSES = 299, 1008
RESAMPLES = 100


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the Fréchet distance of two sets of features, (N, D) and (M, D), taken as normal distributions.

    The trace of the square root of the product of the covariances equals the sum of the singular values of the product
    of the centered features, an exact and small matrix where there are fewer features than dimensions.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017.
    """
    (mean_a, a), (mean_b, b) = (_centered(each) for each in (one, other))
    common = torch.linalg.svdvals(a @ b.T).sum()
    distance = (mean_a - mean_b).square().sum() + a.square().sum() + b.square().sum() - 2 * common
    return max(float(distance), 0.0)


def _centered(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (D,), and at most D rows whose product with themselves is the covariance."""
    features = features.double()
    mean = features.mean(0)
    rows = (features - mean) / (len(features) - 1) ** 0.5
    return mean, rows if len(rows) <= rows.shape[1] else torch.linalg.qr(rows, mode="r").R


def distance_with_interval(one: Tensor, other: Tensor, *, seed: int = 0) -> dict[str, float]:
    """Return the distance of two sets, and the half width of its 95 % interval.

    Clips are drawn with replacement (bootstrap). The distances of such draws are too large, because repeated clips make
    a set smaller, so only their spread is used.

    Args:
        one, other: features of every clip, (clips, K, D).
    """
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(RESAMPLES):
        drawn = [each[torch.randint(len(each), (len(each),), generator=generator)] for each in (one, other)]
        draws.append(frechet_distance(*(each.flatten(0, 1) for each in drawn)))
    distance = frechet_distance(one.flatten(0, 1), other.flatten(0, 1))
    return {"value": distance, "plus_minus": 1.96 * float(torch.tensor(draws).std())}


class Inception(nn.Module):
    """The Inception of FID: torchvision's, but pooling ignores the border, and the last pooling takes the maximum."""

    num_frames = 4
    """How many frames of a clip it sees; neighbors would look the same."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        from torchvision.models import Inception3

        net = Inception3(INCEPTION_CLASSES, aux_logits=False, transform_input=False, init_weights=False)
        self.net = fill(net, weights, "the Inception of FID")
        self.net.fc = nn.Identity()  # type: ignore[assignment]
        for name, part in net.named_modules():
            if name.endswith(".branch_pool"):
                part.register_forward_pre_hook(_without_border)
        last, seen = net.get_submodule("Mixed_7c"), []
        last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        branch = last.get_submodule("branch_pool")
        branch.register_forward_pre_hook(lambda *_: F.max_pool2d(seen.pop(), 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features (T, 2048) of pictures (T, 3, H, W), 0 to 255."""
        size = (INCEPTION_PX, INCEPTION_PX)
        seen = F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
        return self.net((seen - 128) / 128)


def _without_border(_module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Turn a mean over 3 x 3 pixels, zeros around the picture included, into the mean of the pixels inside it."""
    return inputs[0] / F.avg_pool2d(torch.ones_like(inputs[0][:1, :1]), 3, 1, 1)


class VideoFeatures(nn.Module):
    """VideoMAE, which sees as many frames of a clip as in its training."""

    def __init__(self, video_mae: Any) -> None:
        super().__init__()
        self.video_mae = video_mae
        self.num_frames, self.side = video_mae.config.num_frames, video_mae.config.image_size

    def forward(self, frames: Tensor) -> Tensor:
        """Return the feature (1, D) of a clip's frames (T, 3, H, W), 0 to 255."""
        square = center(shorter_side(frames, self.side, "bilinear", antialias=True), self.side)
        return self.video_mae(normalized(square, IMAGENET)[None]).last_hidden_state.mean(1)
