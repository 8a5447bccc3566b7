"""MUSIQ, which rates the technical quality of a picture of any size. Keys are those of the published weights.

Source: Ke et al., "MUSIQ: Multi-scale Image Quality Transformer", 2021. Shapes: B pictures, N patches, D width.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH_PX, STEM = 32, 64
LONGER_SIDES_PX = (224, 384)
"""The model sees a picture at these sizes and at its own."""
HEAD_WIDTH = 64


def same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Pad (.., H, W) with zeros so that a window fits at every stride; an odd pixel goes to the right or the bottom."""
    pads = [(math.ceil(side / stride) - 1) * stride + kernel - side for side in x.shape[-2:]]
    (top, left) = (pad // 2 for pad in pads)
    return F.pad(x, (left, pads[1] - left, top, pads[0] - top))


class StdConv(nn.Conv2d):
    """A convolution whose weights are standardized for each output channel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        padded = same_pad(input, self.kernel_size[0], int(self.stride[0]))
        return F.conv2d(padded, weight, stride=self.stride)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.gn1 = StdConv(inputs, inputs, 1), nn.GroupNorm(32, inputs, eps=1e-4)
        self.conv2, self.gn2 = StdConv(inputs, inputs, 3), nn.GroupNorm(32, inputs, eps=1e-4)
        self.conv3, self.gn3 = StdConv(inputs, outputs, 1), nn.GroupNorm(32, outputs, eps=1e-4)
        self.conv_proj, self.gn_proj = StdConv(inputs, outputs, 1), nn.GroupNorm(32, outputs, eps=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        return F.relu(self.gn3(self.conv3(y)) + self.gn_proj(self.conv_proj(x)))


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = [
            layer(x).unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        ]
        return self.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention, self.mlp = Attention(width), Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    def __init__(self, width: int, hidden: int, *, layers: int, grid: int) -> None:
        super().__init__()
        self.posembed_input = nn.ParameterDict({"position_emb": torch.zeros(1, grid * grid, width)})
        self.scaleembed_input = nn.ParameterDict({"scale_emb": torch.zeros(len(LONGER_SIDES_PX) + 1, width)})
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.transformer = nn.ModuleDict({f"encoderblock_{i}": Block(width, hidden) for i in range(layers)})

    def forward(self, patches: Tensor, places: Tensor, scales: Tensor) -> Tensor:
        """Return the state (B, D) of patches (B, N, D); ``places`` and ``scales`` (N,) choose their embeddings."""
        x = patches + self.posembed_input["position_emb"][0, places]
        x = x + self.scaleembed_input["scale_emb"][scales]
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.transformer.values():
            x = block(x)
        return self.encoder_norm(x)[:, 0]


class Musiq(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1] to scores (B,), 0 to 100."""

    def __init__(self, *, width: int = 384, hidden: int = 1152, layers: int = 14, grid: int = 10) -> None:
        super().__init__()
        self.grid = grid
        self.conv_root, self.gn_root = StdConv(3, STEM, 7, 2), nn.GroupNorm(32, STEM, eps=1e-6)
        self.block1 = Bottleneck(STEM, 4 * STEM)
        self.embedding = nn.Linear(4 * STEM * (PATCH_PX // 4) ** 2, width)
        self.transformer_encoder = Encoder(width, hidden, layers=layers, grid=grid)
        self.head = nn.Linear(width, 1)

    @classmethod
    def shaped_as(cls, weights: Mapping[str, Tensor]) -> "Musiq":
        """Return an untrained model with the sizes of some weights."""
        block = "transformer_encoder.transformer.encoderblock_{}.mlp.fc1.weight"
        hidden, width = weights[block.format(0)].shape
        layers = sum(block.format(i) in weights for i in range(len(weights)))
        places = weights["transformer_encoder.posembed_input.position_emb"].shape[1]
        return cls(width=width, hidden=hidden, layers=layers, grid=math.isqrt(places))

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = 2 * pictures - 1
        height, width = pictures.shape[-2:]
        ratios = [longer / max(height, width) for longer in LONGER_SIDES_PX]
        sizes = [(round(height * ratio), round(width * ratio)) for ratio in ratios]
        shown = [F.interpolate(pictures, size, mode="bicubic") for size in sizes]
        tokens, places, scales = zip(
            *(self._tokens(x, scale) for scale, x in enumerate([*shown, pictures])), strict=True
        )
        state = self.transformer_encoder(torch.cat(tokens, 1), torch.cat(places), torch.cat(scales))
        return self.head(state)[:, 0]

    def _tokens(self, x: Tensor, scale: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the patches (B, N, D) of pictures, the grid cell (N,) that each lies in, and their scale (N,)."""
        rows, columns = (math.ceil(side / PATCH_PX) for side in x.shape[-2:])
        patches = F.unfold(same_pad(x, PATCH_PX, PATCH_PX), PATCH_PX, stride=PATCH_PX).transpose(1, 2)
        y = F.relu(self.gn_root(self.conv_root(patches.reshape(-1, 3, PATCH_PX, PATCH_PX))))
        y = self.block1(F.max_pool2d(same_pad(y, 3, 2), 3, 2))
        tokens = self.embedding(y.permute(0, 2, 3, 1).flatten(1)).unflatten(0, (len(x), -1))
        cells = torch.arange(self.grid, device=x.device).float()[None, None]
        row, column = (
            F.interpolate(cells, count, mode="nearest").long().flatten() for count in (rows, columns)
        )
        places = (row[:, None] * self.grid + column).flatten()
        return tokens, places, torch.full_like(places, scale)
