"""A trainable autoencoder in the TAEHV layout at any width, and its exact expansion to the stock width.

The layout (layer order and key names) is that of TAEHV, which ComfyUI's stock VAELoader opens; it has no norm
layers, so a narrow network padded with zeros computes the same function.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

LATENT_CHANNELS = 16
STOCK_WIDTHS = (64, (256, 128, 64, 64))
NARROW_WIDTHS = (16, (64, 48, 24, 16))
FRAMES_TO_TRIM = 3  # the decoder's first latent yields four frames, of which the last is frame 0


class Clamp(nn.Module):
    """Bound latents softly to (-3, 3)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    """Residual block that also sees the previous frame at the same depth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return F.relu(self.conv(torch.cat([x, past], 1)) + x)


class TPool(nn.Module):
    """Merge ``stride`` frames into one."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(rearrange(x, "(n s) c h w -> n (s c) h w", s=self.stride))


class TGrow(nn.Module):
    """Split one frame into ``stride``."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.conv(x), "n (s c) h w -> (n s) c h w", s=self.stride)


def _down(width: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
    return [TPool(width, stride), conv, MemBlock(width), MemBlock(width), MemBlock(width)]


def _up(width: int, following: int, stride: int) -> list[nn.Module]:
    blocks = [MemBlock(width), MemBlock(width), MemBlock(width), nn.Upsample(scale_factor=2)]
    return [*blocks, TGrow(width, stride), nn.Conv2d(width, following, 3, padding=1, bias=False)]


def _initialise(module: nn.Module) -> None:
    """Keep the signal's scale through depth, and let every block start near the identity."""
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
        nn.init.kaiming_normal_(
            module.weight, nonlinearity="relu" if module.kernel_size[0] == 3 else "linear"
        )
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, MemBlock) and not module.conv[-1].weight.is_meta:
        with torch.no_grad():
            module.conv[-1].weight.mul_(0.1)


class Taehv(nn.Module):
    """Autoencoder of clips; 8x8 in space, 4 in time, 16 channels."""

    def __init__(self, widths: tuple[int, tuple[int, int, int, int]] = NARROW_WIDTHS) -> None:
        super().__init__()
        enc, dec = widths
        self.encoder = nn.Sequential(
            nn.Conv2d(3, enc, 3, padding=1),
            nn.ReLU(),
            *_down(enc, 2),
            *_down(enc, 2),
            *_down(enc, 1),
            nn.Conv2d(enc, LATENT_CHANNELS, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            Clamp(),
            nn.Conv2d(LATENT_CHANNELS, dec[0], 3, padding=1),
            nn.ReLU(),
            *_up(dec[0], dec[1], 1),
            *_up(dec[1], dec[2], 2),
            *_up(dec[2], dec[3], 2),
            nn.ReLU(),
            nn.Conv2d(dec[3], 3, 3, padding=1),
        )

        self.apply(_initialise)

    @staticmethod
    def _run(layers: nn.Sequential, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = rearrange(x, "b t c h w -> (b t) c h w")
        for layer in layers:
            if isinstance(layer, MemBlock):
                frames = rearrange(x, "(b t) c h w -> b t c h w", b=batch)
                past = F.pad(frames, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
                x = layer(x, rearrange(past, "b t c h w -> (b t) c h w"))
            else:
                x = layer(x)
        return rearrange(x, "(b t) c h w -> b t c h w", b=batch)

    def encode(self, clip: Tensor) -> Tensor:
        """Encode clips; frame 0 is alone in latent 0, so that a single picture has the same latent.

        Args:
            clip: (B, 4n+1, 3, H, W) in [0, 1].

        Returns:
            (B, 16, n+1, H/8, W/8), the scale the DiT is trained on.
        """
        padded = torch.cat([clip[:, :1].expand(-1, FRAMES_TO_TRIM, -1, -1, -1), clip], dim=1)
        return self._run(self.encoder, padded).transpose(1, 2)

    def decode(self, latent: Tensor) -> Tensor:
        """Decode (B, 16, n+1, h, w) to (B, 4n+1, 3, 8h, 8w), not clamped."""
        return self._run(self.decoder, latent.transpose(1, 2))[:, FRAMES_TO_TRIM:]


def expand_widths(narrow: Taehv) -> dict[str, Tensor]:
    """Return the state dict of the stock-width network that computes the same function as ``narrow``."""
    with torch.device("meta"):
        sizes = {k: v.shape for k, v in Taehv(STOCK_WIDTHS).state_dict().items()}
    joined, out = _joined_axes(narrow), {}
    for key, value in narrow.state_dict().items():
        for axis in range(min(2, value.ndim)):
            value = _pad_axis(value, axis, sizes[key][axis], joined.get((key, axis), 1))
        out[key] = value.contiguous()
    return out


def narrow_network(stock: Mapping[str, Tensor]) -> Taehv:
    """Return the narrow network inside a padded state dict.

    Raises:
        ValueError: the weights are not zero outside the narrow part.
    """
    narrow, state = Taehv(), {}
    joined = _joined_axes(narrow)
    for key, wanted in narrow.state_dict().items():
        value = stock[key].float()
        for axis in range(min(2, value.ndim)):
            value = _cut_axis(value, axis, wanted.shape[axis], joined.get((key, axis), 1))
        if not torch.isclose(value.abs().sum(), stock[key].float().abs().sum(), rtol=1e-3):
            raise ValueError(f"{key} holds weights outside the narrow network")
        state[key] = value
    narrow.load_state_dict(state)
    return narrow.eval().to(memory_format=torch.channels_last)  # a fifth faster on a CPU


def _joined_axes(network: Taehv) -> dict[tuple[str, int], int]:
    """Return for (weight, axis) how many frames' channels are concatenated along it."""
    joined = {}
    for name, module in network.named_modules():
        if isinstance(module, MemBlock):
            joined[f"{name}.conv.0.weight", 1] = 2
        elif isinstance(module, TPool):
            joined[f"{name}.conv.weight", 1] = module.stride
        elif isinstance(module, TGrow):
            joined[f"{name}.conv.weight", 0] = module.stride
    return joined


def _pad_axis(value: Tensor, axis: int, size: int, groups: int) -> Tensor:
    if value.shape[axis] == size:
        return value
    parts = value.chunk(groups, dim=axis)
    missing = size // groups - parts[0].shape[axis]
    shape = list(parts[0].shape)
    shape[axis] = missing
    return torch.cat([torch.cat([p, p.new_zeros(shape)], axis) for p in parts], axis)


def _cut_axis(value: Tensor, axis: int, size: int, groups: int) -> Tensor:
    return torch.cat(
        [part.narrow(axis, 0, size // groups) for part in value.chunk(groups, dim=axis)], dim=axis
    )
