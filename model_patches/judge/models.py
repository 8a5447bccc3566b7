"""The models behind the measures, as plain modules: DINO and CLIP from folders, the others from their weights.

Pictures are (T, 3, H, W), 0 to 255 unless said otherwise, as VBench hands them to its models.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.clip import OPENAI_MEAN, OPENAI_STD, projected
from ..encoders.folders import load_pretrained
from .musiq import Musiq

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE_PX, I2V_SIDE_PX = 224, 256
MOST_PX = 512
"""Longest side of a picture that MUSIQ sees."""
RAFT_UPDATES, LEAST_PX = 20, 128
FASTEST_SHARE = 0.05

Weights = Mapping[str, Tensor]
Module = TypeVar("Module", bound=nn.Module)


def shorter_side(pictures: Tensor, side: int, mode: str, *, antialias: bool = False) -> Tensor:
    """Resize pictures so that the shorter side has ``side`` pixels."""
    height, width = pictures.shape[-2:]
    size = [side, int(side * width / height)] if height <= width else [int(side * height / width), side]
    return F.interpolate(pictures, size, mode=mode, align_corners=False, antialias=antialias)


def center(pictures: Tensor, side: int) -> Tensor:
    """Cut out the center square."""
    top, left = (round((length - side) / 2) for length in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


def normalized(pictures: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, std = (torch.tensor(each, device=pictures.device).view(-1, 1, 1) for each in statistics)
    return (pictures / 255 - mean) / std


def fill(module: Module, weights: Weights, what: str) -> Module:
    """Load weights strictly into an empty module.

    Raises:
        ValueError: a weight is missing or of another shape.
    """
    wanted = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    for name, tensor in wanted.items():
        given = weights.get(name)
        if given is None or given.shape != tensor.shape:
            has = "no such weight" if given is None else f"shape {tuple(given.shape)}"
            raise ValueError(
                f"It does not hold {what}: {name} should have shape {tuple(tensor.shape)}, it has {has}."
            )
    module.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return module.float().eval().requires_grad_(False)


def pretrained(kind: str, folder: Path, **options: Any) -> Any:
    """Load one of transformers' models from a folder, in float32."""
    import transformers

    return load_pretrained(getattr(transformers, kind), folder, torch.float32, **options)


class Dino(nn.Module):
    """DINO's ViT, with its position embedding adapted to the picture's shape as in the original code."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit
        vit.embeddings.interpolate_pos_encoding = self._positions

    def subject(self, pictures: Tensor) -> Tensor:
        """Return the unit features (T, D) of whole pictures, for VBench's subject consistency."""
        return self._features(shorter_side(pictures, SIDE_PX, "bilinear"))

    def i2v_subject(self, pictures: Tensor) -> Tensor:
        """Return the unit features (T, D) of the pictures' centers, for VBench-I2V."""
        return self._features(center(shorter_side(pictures, I2V_SIDE_PX, "bicubic", antialias=True), SIDE_PX))

    def _features(self, pictures: Tensor) -> Tensor:
        states = self.vit(normalized(pictures, IMAGENET), interpolate_pos_encoding=True).last_hidden_state
        return F.normalize(states[:, 0])

    def _positions(self, _embeddings: Tensor, height: int, width: int) -> Tensor:
        known = self.vit.embeddings.position_embeddings
        side, patch = math.isqrt(known.shape[1] - 1), self.vit.config.patch_size
        rows, columns = height // patch, width // patch
        if (rows, columns) == (side, side):
            return known
        grid = known[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        factors = (
            (rows + 0.1) / side,
            (columns + 0.1) / side,
        )  # + 0.1 guards against rounding, as in the original
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
        return torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class Clip(nn.Module):
    """CLIP's two towers."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def pictures(self, pictures: Tensor) -> Tensor:
        """Return unit features (T, D)."""
        side = self.clip.config.vision_config.image_size
        seen = normalized(center(shorter_side(pictures, side, "bicubic"), side), (OPENAI_MEAN, OPENAI_STD))
        return F.normalize(projected(self.clip.get_image_features(pixel_values=seen)))

    def text(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return the unit feature (1, D) of a text's tokens."""
        return F.normalize(projected(self.clip.get_text_features(**tokens)))


class Rater(nn.Module):
    """LAION's linear head on CLIP, which predicts how much people like a picture."""

    def __init__(self, clip: Clip, head: Weights) -> None:
        super().__init__()
        line = nn.Linear(clip.clip.config.projection_dim, 1)
        self.clip, self.head = clip, fill(line, head, "LAION's aesthetic head for this CLIP")

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scores (T,), 0 to 1."""
        return self.head(self.clip.pictures(pictures))[:, 0] / 10


class ImagingQuality(nn.Module):
    """MUSIQ after VBench's resizing."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        try:
            self.musiq = Musiq.shaped_as(weights)
        except KeyError as error:
            raise ValueError(f"It does not hold MUSIQ: it lacks {error}.") from None
        fill(self.musiq, weights, "MUSIQ with one score (trained on SPAQ)")

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scores (T,), 0 to 1."""
        if (longer := max(pictures.shape[-2:])) > MOST_PX:
            size = [int(MOST_PX / longer * side) for side in pictures.shape[-2:]]
            pictures = F.interpolate(pictures, size, mode="bilinear", align_corners=False)
        return self.musiq(pictures / 255) / 100


class Flow(nn.Module):
    """RAFT."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        from torchvision.models.optical_flow import raft_large

        self.raft = fill(raft_large(), weights, "torchvision's raft_large")

    def forward(self, one: Tensor, other: Tensor) -> float:
        """Return the mean motion of the fastest twentieth of the pixels between two pictures, in pixels."""
        height, width = one.shape[-2:]
        if min(height, width) < LEAST_PX:
            raise ValueError(f"RAFT needs {LEAST_PX} pixels a side; the clip has {width} x {height}.")
        down, right = -height % 8, -width % 8
        pad = (right // 2, right - right // 2, down // 2, down - down // 2)
        seen = [F.pad(2 * picture / 255 - 1, pad, mode="replicate") for picture in (one, other)]
        length = self.raft(*seen, num_flow_updates=RAFT_UPDATES)[-1][0].norm(dim=0).flatten()
        return float(length.topk(max(1, int(len(length) * FASTEST_SHARE))).values.mean())


class Lpips(nn.Module):
    """The learned distance of two pictures, on AlexNet.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
    """

    TAPS = (1, 4, 7, 9, 11)
    CENTER, SPREAD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

    def __init__(self, alexnet: Weights, lpips: Weights) -> None:
        super().__init__()
        from torchvision.models import alexnet as empty_alexnet

        features = {k.removeprefix("features."): v for k, v in alexnet.items() if k.startswith("features.")}
        self.features = fill(empty_alexnet(weights=None).features, features, "torchvision's AlexNet")
        lines = nn.ModuleDict(
            {f"lin{i}": nn.Linear(n, 1, bias=False) for i, n in enumerate((64, 192, 384, 256, 256))}
        )
        line_weights = {
            f"lin{i}.weight": lpips.get(f"lin{i}.model.1.weight", torch.zeros(0)).flatten(1) for i in range(5)
        }
        self.lines = fill(lines, line_weights, "the weights of LPIPS for AlexNet")

    def forward(self, one: Tensor, other: Tensor) -> float:
        """Return the distance of two pictures (1, 3, H, W), 0 where they look the same."""
        center, spread = (
            torch.tensor(each, device=one.device).view(-1, 1, 1) for each in (self.CENTER, self.SPREAD)
        )
        x = (torch.cat([one, other]) * 2 / 255 - 1 - center) / spread
        distance = 0.0
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.TAPS:
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
                line = self.lines[f"lin{self.TAPS.index(i)}"]
                distance += float(line((unit[:1] - unit[1:]).square().movedim(1, -1)).mean())
        return distance
