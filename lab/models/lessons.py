"""What a student of the shapes world learns otherwise than the product's trainer teaches: which calls, to which end."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...model_patches.training import stages
from ...model_patches.training.batch import TrainingBatch
from ...model_patches.training.config import DistillConfig
from ...model_patches.training.losses import ode_step_loss
from ...model_patches.training.networks import Networks
from ...model_patches.training.stages import (
    Losses,
    Micro,
    Phase,
    StudentStep,
    student_step,
    student_velocity,
)


@dataclass(frozen=True)
class AnsweredBatch(TrainingBatch):
    """A batch whose data know what a few-step student should come to.

    answer: like latents. answered: (B,) bool, the clips that have one. choices: (B, K, C, T, H, W), the ways in which
    the clips that could follow differ, orthonormal in each clip, zeros where only one could; None where not known.
    """

    answer: Tensor
    answered: Tensor
    choices: Tensor | None = None


def choice_loss(velocity: Tensor, start: Tensor, end: Tensor, span: Tensor, choices: Tensor) -> Tensor:
    """Return the part of ``ode_step_loss`` that lies along ``choices``: which of several futures is made.

    Args:
        choices: (B, K, C, T, H, W), orthonormal in each clip, or zeros.
    """
    error = velocity - ((start - end) / span).detach()
    along = torch.einsum("bk...,b...->bk", choices, error)
    return along.square().sum() / error.numel()


def straight_way(start: Tensor, clean: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """Return the state at the sigma ``following`` on the straight way from z_sigma to a clean latent.

    It is where the ODE of a model leads that has no doubt. Source: the line below eq. 4, solved for the noise.
    """
    return start + (following - sigma) * (start - clean) / sigma


def answered_losses(micro: Micro, choice_weight: float) -> Losses:
    """Lead a step of the student to the answer where there is one, elsewhere to where the guided teacher leads.

    Args:
        choice_weight: how much more an error counts that leads to another of the clips that could follow.

    Raises:
        ValueError: choice_weight is set and the batch has no choices.
    """
    choices = micro.batch.choices if isinstance(micro.batch, AnsweredBatch) else None
    if choice_weight and choices is None:
        raise ValueError(
            f"ode_choice_weight is {choice_weight:g}, but this data does not know which clips could follow"
            " (AnsweredBatch.choices). Set it to 0."
        )
    step = student_step(micro)
    end = _end(micro, step)
    covered = student_velocity(micro, step), step.start, end, step.sigma - step.following
    loss = ode_step_loss(*covered)
    if choices is None:
        return {"ode": loss}
    choice = choice_loss(*covered, choices)
    return {"ode": loss + choice_weight * choice, "choice": choice}


def _end(micro: Micro, step: StudentStep) -> Tensor:
    """Return where a step of the student should lead."""
    if not isinstance(micro.batch, AnsweredBatch):
        return stages.teacher_endpoint(micro, step.start)
    end = straight_way(step.start, micro.batch.answer, step.sigma, step.following)
    if (others := ~micro.batch.answered).any():
        end[others] = stages.teacher_endpoint(replace(micro, batch=micro.batch[others]), step.start[others])
    return end


def draw_by_shares(num_steps: int, generator: torch.Generator, *, shares: Sequence[float]) -> int:
    """Draw which call of a schedule is the last, from 0 on, as often as its share."""
    assert len(shares) == num_steps
    return int(torch.multinomial(torch.tensor(shares, dtype=torch.float32), 1, generator=generator))


@dataclass(frozen=True)
class Lessons:
    """What of a student's training is the lab's own.

    ode_call_shares: how often each of the student's calls follows the teacher's ODE, first call first; all alike if
        empty.
    dmd_call_shares: the same for the other updates of dmd2: whose clip is judged and moved. A student that has followed
        the ODE draws the mean of what may come in its first calls, and a clip in its last one.
    ode_choice_weight: how much more an error of those that follow the ODE counts along the choices of the data.
    """

    ode_call_shares: tuple[float, ...] = ()
    dmd_call_shares: tuple[float, ...] = ()
    ode_choice_weight: float = 0.0

    def check(self, config: DistillConfig) -> None:
        """Refuse what does not fit a training's settings.

        Raises:
            ValueError: says what does not.
        """
        for name in ("ode_call_shares", "dmd_call_shares"):
            shares = getattr(self, name)
            if shares and (len(shares) != config.few_steps or min(shares) < 0 or sum(shares) == 0):
                raise ValueError(
                    f"{name} is {list(shares)}; wanted {config.few_steps} numbers, one a step of the student, none"
                    " negative and not all 0."
                )
        if (self.ode_call_shares or self.ode_choice_weight) and not config.ode_updates:
            raise ValueError("ode_call_shares and ode_choice_weight are of the ode_updates, which are 0.")
        if self.dmd_call_shares and (config.stage != "dmd2" or config.ode_updates == config.total_steps):
            raise ValueError(
                f"dmd_call_shares is {list(self.dmd_call_shares)}, but none of the updates is one of DMD2 (stage"
                f' "{config.stage}", {config.ode_updates} of {config.total_steps} follow the ODE).'
            )

    def written(self) -> dict[str, object]:
        """Return what is not at its default, as JSON gives it back."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {name: value for name, value in values.items() if value}

    def phases(self, config: DistillConfig, networks: Networks, step: int) -> list[Phase]:
        """Return the updates that make a step; see ``stages.phases``."""
        follows_ode = config.stage == "dmd2" and step < config.ode_updates
        todo = stages.phases(config, networks, step)
        if follows_ode:
            losses = partial(answered_losses, choice_weight=self.ode_choice_weight)
            todo = [replace(phase, losses=losses) for phase in todo]
        if shares := self.ode_call_shares if follows_ode else self.dmd_call_shares:
            todo = [replace(phase, draw_last_call=partial(draw_by_shares, shares=shares)) for phase in todo]
        return todo
