"""The embedded VAE at the width it was trained at, and decoding that carries its memory from call to call.

The shipped file is padded with zeros to TAEHV's stock width. Benchmarks that decode an hour of 64x64 video cut the
zeros away again and decode every latent frame once; a test holds both to the stock decoder's frames.
"""

import torch
from comfy.taesd.taehv import MemBlock
from magic141.embedded.train.taehv import NARROW_WIDTHS, Taehv, TGrow, TPool
from torch import Tensor, nn


def narrow_network(stock: dict[str, Tensor]) -> Taehv:
    """Return the narrow network inside a padded state dict.

    Raises:
        ValueError: the weights are not zero outside the narrow part.
    """
    narrow = Taehv(NARROW_WIDTHS)
    grouped = {
        f"{n}.conv.0.weight": (1, 2) for n, m in narrow.named_modules() if type(m).__name__ == "MemBlock"
    }
    grouped |= {f"{n}.conv.weight": (1, m.stride) for n, m in narrow.named_modules() if isinstance(m, TPool)}
    grouped |= {f"{n}.conv.weight": (0, m.stride) for n, m in narrow.named_modules() if isinstance(m, TGrow)}
    state = {}
    for name, wanted in narrow.state_dict().items():
        axis, groups = grouped.get(name, (0, 1))
        value = stock[name].float()
        for dim in range(min(2, value.ndim)):
            value = _cut(value, dim, wanted.shape[dim], groups if dim == axis else 1)
        if not torch.isclose(value.abs().sum(), stock[name].float().abs().sum(), rtol=1e-3):
            raise ValueError(f"{name} holds weights outside the narrow network")
        state[name] = value
    narrow.load_state_dict(state)
    return narrow.eval().to(memory_format=torch.channels_last)  # a fifth faster on a CPU


def _cut(value: Tensor, dim: int, size: int, groups: int) -> Tensor:
    parts = value.chunk(groups, dim=dim)
    return torch.cat([part.narrow(dim, 0, size // groups) for part in parts], dim=dim)


class StreamingDecoder:
    """Decode a batch of endless clips piece by piece.

    Args:
        network: of ``narrow_network``.
        scale: the latent format's factor between the host's LATENT and the network (HunyuanVideo: 0.476986).
    """

    def __init__(self, network: Taehv, scale: float) -> None:
        self.network, self.scale = network, scale
        self.memory: dict[int, Tensor] = {}

    def forget(self) -> None:
        """Start new clips."""
        self.memory = {}

    def decode(self, latent: Tensor) -> Tensor:
        """Decode (B, 16, T, h, w) behind what came before, to (B, frames, H, W, 3) in [0, 1]."""
        first = not self.memory
        batch = latent.shape[0]
        x = (latent * self.scale).movedim(1, 2).flatten(0, 1)
        for index, layer in enumerate(self.network.decoder):
            x = self._step(index, layer, x, batch)
        frames = x.unflatten(0, (batch, -1)).movedim(2, -1).clamp(0, 1)
        return frames[:, 3:] if first else frames

    def _step(self, index: int, layer: nn.Module, x: Tensor, batch: int) -> Tensor:
        if type(layer).__name__ != MemBlock.__name__:
            return layer(x)
        frames = x.unflatten(0, (batch, -1))
        before = self.memory.get(index, torch.zeros_like(frames[:, :1]))
        self.memory[index] = frames[:, -1:].clone()
        return layer(x, torch.cat([before, frames[:, :-1]], dim=1).flatten(0, 1))
