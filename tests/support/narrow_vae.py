"""Decoding with the embedded VAE at the width it was trained at, its memory carried from call to call.

Benchmarks that decode an hour of 64x64 video decode every latent frame once; a test holds them to the stock decoder.
"""

import torch
from magic141.lab.models.taehv import MemBlock, Taehv
from torch import Tensor, nn


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
        if not isinstance(layer, MemBlock):
            return layer(x)
        frames = x.unflatten(0, (batch, -1))
        before = self.memory.get(index, torch.zeros_like(frames[:, :1]))
        self.memory[index] = frames[:, -1:].clone()
        return layer(x, torch.cat([before, frames[:, :-1]], dim=1).flatten(0, 1))
