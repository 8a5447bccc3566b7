"""Windows whose right continuation the world knows: what a student learns from beside its teacher.

The frames that a long video hands over have one right future, which the teacher does not know: it was trained on true
known latents, takes a small turn for the intended direction and turns further. So for these windows the student's
target is the world's answer. For first windows it is the teacher, which knows how many futures an open caption allows.
"""

import torch
from torch import Tensor

from .drift import Drift
from .futures import Futures
from .handovers import HandOvers, as_first_windows
from .lessons import AnsweredBatch
from .source import Windows, WorldSource


class AnsweredSource:
    """Random windows as in a long video; those in mid-motion have an answer, the true continuation.

    Args:
        handed: hand-overs, which replace most windows that know two latents.
        turned_share: share of hand-overs whose object has turned.
        futures: of the source's scenes; if given, batches have ``choices``.
    """

    def __init__(
        self,
        source: WorldSource,
        drift: Drift,
        handed: HandOvers,
        *,
        turned_share: float = 0.75,
        futures: Futures | None = None,
    ) -> None:
        self.source, self.drift = source, drift
        self.handed, self.turned_share = handed, turned_share
        self.futures = futures

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Tensor, generator: torch.Generator) -> AnsweredBatch:
        """Return a random window of every row, or a hand-over in its place, with answers."""
        windows = self.source.windows(rows, generator)
        windows, places, index = self.handed.draw(windows, generator, turned_share=self.turned_share)
        true = self.source.window_batch(windows)
        batch = self.drift.add_to(self.source, as_first_windows(windows, places), true, generator)
        batch = self.handed.with_made(batch, places, index, image_states=self.source.image_states)
        answer = self.handed.truth(true, places, index).latents
        choices = self._choices(windows)
        return AnsweredBatch(**vars(batch), answer=answer, answered=windows.start > 0, choices=choices)

    def _choices(self, windows: Windows) -> Tensor | None:
        if self.futures is None:
            return None
        choices = self.futures.choices(windows.rows)
        choices[~windows.is_open] = 0
        return choices
