"""The shapes world as a data set of the pack's trainers."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...model_patches.training.batch import TrainingBatch
from .data import WINDOW_LATENTS, Dataset

FAMILIES = ("named", "open", "open_appearance")
NAMED, OPEN, OPEN_APPEARANCE = range(len(FAMILIES))


KNOWN_SHARES = (0.3, 0.65, 0.05)
MIDDLE_SHARES = (0.05, 0.9, 0.7)
"""How often a window of 1, 2 or 3 known latents starts in mid-motion."""


@dataclass(frozen=True)
class Windows:
    """Which windows of which scenes: rows, caption family, first latent and known latents, (B,) each."""

    rows: Tensor
    family: Tensor
    start: Tensor
    num_known: Tensor

    def __getitem__(self, index: Tensor) -> "Windows":
        return Windows(self.rows[index], self.family[index], self.start[index], self.num_known[index])

    @property
    def is_open(self) -> Tensor:
        """Return which allow several futures: those with an open caption that know only the first frame, or none."""
        return (self.family == OPEN) & (self.start == 0) & (self.num_known <= 1)


def window_batch(data: Dataset, windows: Windows, *, image_states: bool) -> TrainingBatch:
    """Return windows with their conditions.

    Args:
        image_states: put the VLM's states of the last known frame before those of the prompt and of the empty prompt.
    """
    rows, family, count = windows.rows, windows.family, len(windows.rows)
    steps = windows.start[:, None] + torch.arange(WINDOW_LATENTS)
    lengths = data.lengths[rows, family]
    states = data.states[rows, family, : int(lengths.max())].float()
    mask = torch.arange(states.shape[1]) < lengths[:, None]
    null_states = data.null_states.float().expand(count, -1, -1)
    null_mask = torch.ones(null_states.shape[:2], dtype=torch.bool)
    if image_states:
        seen = data.image_states[rows, (windows.start > 0).long()].float()
        seen_mask = torch.ones(seen.shape[:2], dtype=torch.bool)
        states, null_states = torch.cat([seen, states], 1), torch.cat([seen, null_states], 1)
        mask, null_mask = torch.cat([seen_mask, mask], 1), torch.cat([seen_mask, null_mask], 1)
    return TrainingBatch(
        latents=data.latents[rows[:, None], :, steps].float().transpose(1, 2),
        num_known=windows.num_known,
        states=states,
        mask=mask,
        pooled=data.pooled[rows, family].float(),
        null_states=null_states,
        null_mask=null_mask,
        null_pooled=data.null_pooled.float().expand(count, -1),
    )


def with_image_states(batch: TrainingBatch, places: Tensor, image_states: Tensor) -> TrainingBatch:
    """Return a batch with other image states (len(places), S, D) of the VLM at ``places``."""
    states, null_states, seen = batch.states.clone(), batch.null_states.clone(), image_states.float()
    states[places, : seen.shape[1]] = seen
    null_states[places, : seen.shape[1]] = seen
    return replace(batch, states=states, null_states=null_states)


class WorldSource:
    """Random windows of the world's scenes, as the embedded models are trained on.

    Args:
        image: for an image-to-video model: 1 to 3 latents are known, and some windows start in mid-motion.
        family_shares: how often named, open and open-appearance captions are drawn.
        image_states: add the VLM's states; the ablation of the paper's multi-modal guidance leaves them out.
        known_shares: how often 1, 2 or 3 latents are known.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        image: bool,
        family_shares: tuple[float, float, float],
        image_states: bool = True,
        known_shares: tuple[float, float, float] = KNOWN_SHARES,
    ) -> None:
        self.data, self.image = data, image
        self.family_shares, self.known_shares = torch.tensor(family_shares), torch.tensor(known_shares)
        self.image_states = image_states and image

    def __len__(self) -> int:
        return len(self.data.latents)

    def windows(self, rows: Tensor, generator: torch.Generator) -> Windows:
        """Draw a window of every row: caption, start and known latents."""
        count = len(rows)

        def draw(shares: Tensor) -> Tensor:
            return torch.multinomial(shares, count, replacement=True, generator=generator)

        family = draw(self.family_shares)
        if not self.image:
            return Windows(rows, family, *torch.zeros(2, count, dtype=torch.long))
        seen_at, chance = self.data.start[rows], torch.rand(count, generator=generator)
        known = draw(self.known_shares) + 1
        begins = seen_at - known + 1  # so that the VLM has seen the last known frame
        middle = (chance < torch.tensor(MIDDLE_SHARES)[known - 1]) & (begins > 0)
        return Windows(rows, family, torch.where(middle, begins, 0), known)

    def window_batch(self, windows: Windows) -> TrainingBatch:
        """Return windows with their conditions."""
        return window_batch(self.data, windows, image_states=self.image_states)

    def batch(self, rows: Tensor, generator: torch.Generator) -> TrainingBatch:
        """Return a random window of every row."""
        return self.window_batch(self.windows(rows, generator))


class HeldOutSource:
    """The same held-out scenes at each call, from their first frame, to judge a student in training."""

    def __init__(self, data: Dataset, *, image: bool, family: int, image_states: bool = True) -> None:
        self.data, self.image, self.family = data, image, family
        self.image_states = image_states and image

    def __len__(self) -> int:
        return len(self.data.latents)

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> TrainingBatch:
        """Return the window that starts each row's clip, one latent known to an image-to-video model."""
        zeros = torch.zeros(len(rows), dtype=torch.long)
        windows = Windows(rows, zeros + self.family, zeros, zeros + int(self.image))
        return window_batch(self.data, windows, image_states=self.image_states)
