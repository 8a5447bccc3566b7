"""A tiny data set of random latents that drift, for trainings of a few steps."""

import torch
from magic141.model_patches.training.batch import TrainingBatch
from torch import Tensor

from .tiny_dit import TEXT_WIDTH


class TinySource:
    """Eight clips of (16, 2, 4, 4) latents; captions of 3 to 6 tokens; ``num_known`` leading frames are known."""

    def __init__(self, num_known: int = 1, clips: int = 8, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        first = torch.randn(clips, 16, 1, 4, 4, generator=generator)
        self.latents = scale * torch.cat([first, first.roll(1, -1)], 2)
        self.states = torch.randn(clips, 6, TEXT_WIDTH, generator=generator)
        self.pooled = torch.randn(clips, 768, generator=generator)
        self.num_known = num_known
        self.asked: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        self.asked.append(rows.tolist())
        count = len(rows)
        lengths = torch.randint(3, 7, (count,), generator=generator)
        return TrainingBatch(
            latents=self.latents[rows],
            num_known=torch.full((count,), self.num_known),
            states=self.states[rows],
            mask=torch.arange(6) < lengths[:, None],
            pooled=self.pooled[rows],
            null_states=torch.zeros(count, 2, TEXT_WIDTH),
            null_mask=torch.ones(count, 2, dtype=torch.bool),
            null_pooled=torch.zeros(count, 768),
        )
