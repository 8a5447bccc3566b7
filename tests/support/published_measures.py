"""VBench's measures, PSNR, SSIM and MUSIQ as they are published, computed another way than the product does.

Videos are (T, H, W, 3) uint8. Sources: VBench (CVPR 2024), VBench++ (2024), DINO (2021), MUSIQ (2021).
"""

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode

IMAGENET = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def as_pictures(video: Tensor) -> Tensor:
    """Return (T, 3, H, W) float, 0 to 255."""
    return video.permute(0, 3, 1, 2).float()


def temporal_flickering(video: Tensor) -> float:
    frames = video.numpy().astype(np.float32)
    errors = [np.mean(np.abs(one - other), dtype=np.float64) for one, other in pairwise(frames)]
    return float((255.0 - np.mean(errors)) / 255.0)


def motion_smoothness(video: Tensor) -> float:
    """As VBench, with the mean of the neighbors where it has AMT's picture between them."""
    frames = video.numpy().astype(np.float64)
    errors = [
        np.abs(frames[i] - (frames[i - 1] + frames[i + 1]) / 2).mean() for i in range(1, len(frames) - 1, 2)
    ]
    return float((255.0 - np.mean(errors)) / 255.0)


def cosine(one: Tensor, other: Tensor) -> float:
    return max(0.0, float(F.cosine_similarity(one[None], other[None])))


def consistency(features: Tensor) -> float:
    """Subject consistency of DINO's features, background consistency of CLIP's."""
    total = 0.0
    for i in range(1, len(features)):
        total += (cosine(features[i - 1], features[i]) + cosine(features[0], features[i])) / 2
    return total / (len(features) - 1)


def i2v_score(start: Tensor, features: Tensor) -> float:
    to_start = [cosine(start[0], feature) for feature in features]
    steps = [cosine(one, other) for one, other in pairwise(features)]
    return float(0.4 * np.max(to_start) + 0.3 * np.mean(steps) + 0.3 * np.min(steps))


def dino_features(vit, pictures: Tensor) -> Tensor:
    """DINO's own forward: tokens, its interpolated positions, blocks, norm, the class token."""
    embeddings = vit.embeddings
    kernel = embeddings.patch_embeddings.projection
    patches = F.conv2d(pictures, kernel.weight, kernel.bias, stride=kernel.stride).flatten(2).transpose(1, 2)
    positions = embeddings.position_embeddings
    side = int(math.sqrt(positions.shape[1] - 1))
    rows, columns = (length // kernel.stride[0] for length in pictures.shape[-2:])
    grid = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = ((rows + 0.1) / math.sqrt(side * side), (columns + 0.1) / math.sqrt(side * side))
    if (rows, columns) != (side, side):
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    x = torch.cat([embeddings.cls_token.expand(len(patches), -1, -1), patches], 1)
    x = x + torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)], 1)
    for layer in vit.layers:
        x = layer(x, None)
    return vit.layernorm(x)[:, 0]


def dino_view(video: Tensor) -> Tensor:
    resized = transforms.Resize(224, antialias=False)(as_pictures(video))
    return IMAGENET(resized.div(255.0))


def dino_i2v_view(video: Tensor) -> Tensor:
    resized = transforms.Resize(256, interpolation=InterpolationMode.BICUBIC)(as_pictures(video))
    return IMAGENET(transforms.CenterCrop(224)(resized).div(255.0))


def clip_view(video: Tensor, side: int) -> Tensor:
    resized = transforms.Resize(side, interpolation=InterpolationMode.BICUBIC, antialias=False)(
        as_pictures(video)
    )
    return OPENAI(transforms.CenterCrop(side)(resized).div(255.0))


def clip_features(clip, pictures: Tensor) -> Tensor:
    return clip.visual_projection(clip.vision_model(pixel_values=pictures).pooler_output)


def clip_score(clip, tokenizer, video: Tensor, prompt: str, side: int) -> float:
    """Hessel et al. (2021), as torchmetrics scales it."""
    tokens = tokenizer(prompt, return_tensors="pt")
    text = clip.text_projection(clip.text_model(**tokens).pooler_output)[0]
    return float(np.mean([100 * cosine(text, each) for each in clip_features(clip, clip_view(video, side))]))


def aesthetic_quality(clip, head: dict[str, Tensor], video: Tensor, side: int) -> float:
    features = F.normalize(clip_features(clip, clip_view(video, side)), dim=-1, p=2)
    return float((F.linear(features, head["weight"], head["bias"]).squeeze(-1) / 10).mean())


def dynamic_degree(raft, video: Tensor, fps: float) -> tuple[float, float]:
    """Return whether the clip is dynamic (0 or 1), and the mean length of its fastest motion."""
    frames = as_pictures(video)[:: max(1, round(fps / 8))]
    scores = []
    for one, other in pairwise(frames):
        height, width = one.shape[-2:]
        down, right = (8 - height % 8) % 8, (8 - width % 8) % 8
        pad = [right // 2, right - right // 2, down // 2, down - down // 2]
        pair = [F.pad(each[None], pad, mode="replicate") / 127.5 - 1 for each in (one, other)]
        flow = raft(*pair, num_flow_updates=20)[-1][0].numpy()
        lengths = np.sort(np.sqrt(flow[0] ** 2 + flow[1] ** 2).flatten())[::-1]
        scores.append(float(np.mean(lengths[: int(len(lengths) * 0.05)])))
    limit = 6.0 * min(video.shape[1:3]) / 256.0
    moves = sum(score > limit for score in scores) >= round(4 * (len(frames) / 16.0))
    return float(moves), float(np.mean(scores))


def imaging_quality(weights: dict[str, Tensor], video: Tensor) -> float:
    pictures = as_pictures(video)
    height, width = pictures.shape[-2:]
    if max(height, width) > 512:
        scale = 512.0 / max(height, width)
        pictures = transforms.Resize((int(scale * height), int(scale * width)), antialias=False)(pictures)
    return float(np.mean([musiq(weights, picture[None] / 255.0) for picture in pictures])) / 100


def musiq(weights: dict[str, Tensor], picture: Tensor, *, heads: int = 2) -> float:
    """MUSIQ of one picture (1, 3, H, W), its sequences padded and masked as in the original."""
    picture = (picture - 0.5) * 2
    parts = []
    for scale, longer in enumerate((224, 384, None)):
        height, width = picture.shape[-2:]
        ratio = 1 if longer is None else longer / max(height, width)
        size = (round(height * ratio), round(width * ratio))
        shown = picture if longer is None else F.interpolate(picture, size, mode="bicubic")
        parts.append(_musiq_tokens(weights, shown, scale, longer))
    x = torch.cat([part[0] for part in parts], 1)
    mask = torch.cat([torch.ones(1), *(part[1] for part in parts)])
    name = "transformer_encoder."
    x = torch.cat([weights[name + "cls"], x], 1)
    layers = sum(".norm1.weight" in key for key in weights)
    for i in range(layers):
        x = _musiq_block(weights, f"{name}transformer.encoderblock_{i}.", x, mask, heads)
    x = _norm(weights, name + "encoder_norm.", x)
    return float(F.linear(x[:, 0], weights["head.weight"], weights["head.bias"]))


def _musiq_tokens(weights: dict, picture: Tensor, scale: int, longer: int | None) -> tuple[Tensor, Tensor]:
    rows, columns = (math.ceil(length / 32) for length in picture.shape[-2:])
    down, right = rows * 32 - picture.shape[-2], columns * 32 - picture.shape[-1]
    padded = F.pad(picture, (right // 2, right - right // 2, down // 2, down - down // 2))
    grid = math.isqrt(weights["transformer_encoder.posembed_input.position_emb"].shape[1])
    tiles, cells = [], []
    for row in range(rows):
        for column in range(columns):
            tiles.append(padded[0, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32])
            cells.append(math.floor(row * grid / rows) * grid + math.floor(column * grid / columns))
    missing = 0 if longer is None else math.ceil(longer / 32) ** 2 - len(tiles)
    tiles, cells = tiles + [torch.zeros(3, 32, 32)] * missing, cells + [0] * missing
    y = F.pad(torch.stack(tiles), (2, 3, 2, 3))
    y = F.conv2d(y, _standard(weights["conv_root.weight"]), stride=2)
    y = F.relu(F.group_norm(y, 32, weights["gn_root.weight"], weights["gn_root.bias"], 1e-6))
    y = F.max_pool2d(F.pad(y, (0, 1, 0, 1)), 3, 2)
    shortcut, z = _conv_norm(weights, "conv_proj", "gn_proj", y), y
    z = F.relu(_conv_norm(weights, "conv1", "gn1", z))
    z = F.relu(_conv_norm(weights, "conv2", "gn2", z, padding=1))
    z = F.relu(_conv_norm(weights, "conv3", "gn3", z) + shortcut)
    tokens = F.linear(
        z.permute(0, 2, 3, 1).flatten(1), weights["embedding.weight"], weights["embedding.bias"]
    )
    places = weights["transformer_encoder.posembed_input.position_emb"][0][torch.tensor(cells)]
    seen = torch.tensor([1.0] * (len(tiles) - missing) + [0.0] * missing)
    scales = weights["transformer_encoder.scaleembed_input.scale_emb"][
        torch.where(seen > 0, torch.tensor(scale), torch.tensor(0))
    ]
    return (tokens + places + scales)[None], seen


def _standard(weight: Tensor) -> Tensor:
    flat = weight.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return (flat / (flat.std(1, keepdim=True) + 1e-5)).view_as(weight)


def _conv_norm(weights: dict, conv: str, norm: str, x: Tensor, padding: int = 0) -> Tensor:
    y = F.conv2d(x, _standard(weights[f"block1.{conv}.weight"]), padding=padding)
    return F.group_norm(y, 32, weights[f"block1.{norm}.weight"], weights[f"block1.{norm}.bias"], 1e-4)


def _norm(weights: dict, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[name + "weight"], weights[name + "bias"], 1e-6)


def _linear(weights: dict, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[name + ".weight"], weights[name + ".bias"])


def _musiq_block(weights: dict, name: str, x: Tensor, mask: Tensor, heads: int) -> Tensor:
    y = _norm(weights, name + "norm1.", x)
    q, k, v = (
        _linear(weights, f"{name}attention.{part}", y).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill((mask[:, None] * mask) == 0, -1e3).softmax(-1)
    x = x + _linear(weights, name + "attention.out", (scores @ v).transpose(1, 2).flatten(2))
    y = F.gelu(_linear(weights, name + "mlp.fc1", _norm(weights, name + "norm2.", x)))
    return x + _linear(weights, name + "mlp.fc2", y)
