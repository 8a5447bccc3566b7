"""Windows whose answer the world knows: what a student learns from beside its teacher.

What a long video hands over has one future, and the teacher does not know it better: taught on true known latents, it
takes a small turn for the way and turns on. So there the world's answer is what a student should come to. First
windows it does as its teacher does, which knows how many futures an open caption leaves.
"""

import torch
from torch import Tensor

from .drift import Drift
from .futures import Futures
from .handovers import HandOvers, unworn
from .lessons import AnsweredBatch
from .source import Windows, WorldSource


class AnsweredSource:
    """Random windows as a long video hands them over; those in mid-motion have their answer.

    Args:
        handed: take the place of most windows that know two latents.
        turned_share: how many of those have turned.
        futures: of the source's scenes; batches have their choices then.
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
        """Return a random window of every row, or a hand-over in its place."""
        windows = self.source.windows(rows, generator)
        windows, places, index = self.handed.draw(windows, generator, turned_share=self.turned_share)
        shown = self.source.shown(windows)
        told = self.drift.put_on(self.source, unworn(windows, places), shown, generator)
        told = self.handed.told(told, places, index, image_states=self.source.image_states)
        answer = self.handed.truth(shown, places, index).latents
        choices = self._choices(windows)
        return AnsweredBatch(**vars(told), answer=answer, answered=windows.start > 0, choices=choices)

    def _choices(self, windows: Windows) -> Tensor | None:
        if self.futures is None:
            return None
        choices = self.futures.choices(windows.rows)
        choices[~windows.is_open] = 0
        return choices
