"""How many updates a student needed: the paper's Fig. 5 as a number with an interval."""

import math

import torch
from torch import Tensor


def updates_to_share(updates: Tensor, clean: Tensor, *, share: float = 0.9, smooth: int = 3) -> float:
    """Return the first update at which a curve has made ``share`` of its own gain; NaN where it gained nothing.

    Args:
        updates: (P,) ascending from 0, where the teacher stands at the student's number of steps.
        clean: (P, N) 0 or 1: each clip at each update.
        smooth: looks averaged for the final height, and for each point but the first.
    """
    heights = clean.double().mean(1)
    start, final = heights[0], heights[-smooth:].mean()
    if final <= start:
        return math.nan
    running = torch.stack([heights[max(1, i - smooth + 1) : i + 1].mean() for i in range(1, len(heights))])
    reached = (running >= start + share * (final - start)).nonzero()
    return float(updates[1:][reached[0, 0]]) if len(reached) else math.nan


def convergence(
    updates: Tensor, curves: list[Tensor], generator: torch.Generator, *, draws: int = 500
) -> dict[str, float]:
    """Return the mean over seeds of ``updates_to_share``, with a 95 % interval that resamples seeds and clips.

    Args:
        curves: a (P, N) tensor a seed.
    """
    values = torch.tensor([updates_to_share(updates, curve) for curve in curves])
    resampled = []
    for _ in range(draws):
        seeds = torch.randint(len(curves), (len(curves),), generator=generator).tolist()
        one = [
            updates_to_share(
                updates,
                curves[s][:, torch.randint(curves[s].shape[1], (curves[s].shape[1],), generator=generator)],
            )
            for s in seeds
        ]
        resampled.append(torch.tensor(one).nanmean())
    stacked = torch.stack(resampled)
    ends = torch.nanquantile(stacked.double(), torch.tensor([0.025, 0.975], dtype=torch.float64))
    return {"updates": values.nanmean().item(), "low": ends[0].item(), "high": ends[1].item()}
