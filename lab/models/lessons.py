"""How the training of the lab's students differs from the product's: which calls are trained, and to which target."""

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
    """A batch that holds the clips a few-step student should make.

    answer: like latents. answered: (B,) bool, the clips that have an answer. choices: (B, K, C, T, H, W), orthonormal
    directions in which the possible clips differ, zeros where only one is possible; None if unknown.
    """

    answer: Tensor
    answered: Tensor
    choices: Tensor | None = None


def choice_loss(velocity: Tensor, start: Tensor, end: Tensor, span: Tensor, choices: Tensor) -> Tensor:
    """Return the part of ``ode_step_loss`` along ``choices``, which decides which of several futures is made.

    Args:
        choices: (B, K, C, T, H, W), orthonormal in each clip, or zeros.
    """
    error = velocity - ((start - end) / span).detach()
    along = torch.einsum("bk...,b...->bk", choices, error)
    return along.square().sum() / error.numel()


def straight_way(start: Tensor, clean: Tensor, sigma: Tensor, following: Tensor) -> Tensor:
    """Return the state at the sigma ``following`` on the straight line from z_sigma to a clean latent.

    The ODE of a model that knows the clean latent leads there. Source: the line below eq. 4, solved for the noise.
    """
    return start + (following - sigma) * (start - clean) / sigma


def answered_losses(micro: Micro, choice_weight: float) -> Losses:
    """Return the loss of a student's step against the answer, or against the guided teacher where there is none.

    Args:
        choice_weight: extra weight of an error toward another of the possible clips.

    Raises:
        ValueError: choice_weight is set, but the batch has no choices.
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
    """Draw which call of a schedule is the last, from 0 on, with these probabilities."""
    assert len(shares) == num_steps
    return int(torch.multinomial(torch.tensor(shares, dtype=torch.float32), 1, generator=generator))


@dataclass(frozen=True)
class Lessons:
    """The parts of a student's training that only the lab has.

    ode_call_shares: how often each of the student's calls is trained to follow the teacher's ODE, first call first; if
        empty, all alike.
    dmd_call_shares: the same for DMD2's updates of the student: which call's clip is judged. After the ODE training the
        first calls draw the mean of all futures, and the last one draws a clip.
    ode_choice_weight: extra weight of ODE errors along the choices of the data.
    """

    ode_call_shares: tuple[float, ...] = ()
    dmd_call_shares: tuple[float, ...] = ()
    ode_choice_weight: float = 0.0

    def check(self, config: DistillConfig) -> None:
        """Refuse lessons that do not fit a training's settings.

        Raises:
            ValueError: says what does not fit.
        """
        for name in ("ode_call_shares", "dmd_call_shares"):
            shares = getattr(self, name)
            if shares and (len(shares) != config.few_steps or min(shares) < 0 or sum(shares) == 0):
                raise ValueError(
                    f"{name} is {list(shares)}; wanted {config.few_steps} numbers, one a step of the student, none"
                    " negative and not all 0."
                )
        if (self.ode_call_shares or self.ode_choice_weight) and not config.ode_updates:
            raise ValueError("ode_call_shares and ode_choice_weight need ode_updates, which is 0.")
        if self.dmd_call_shares and (config.stage != "dmd2" or config.ode_updates == config.total_steps):
            raise ValueError(
                f"dmd_call_shares is {list(self.dmd_call_shares)}, but none of the updates is one of DMD2 (stage"
                f' "{config.stage}", {config.ode_updates} of {config.total_steps} follow the ODE).'
            )

    def changed_values(self) -> dict[str, object]:
        """Return the values that are not the defaults, as JSON returns them."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {name: value for name, value in values.items() if value}

    def phases(self, config: DistillConfig, networks: Networks, step: int) -> list[Phase]:
        """Return the updates of a step; see ``stages.phases``."""
        follows_ode = config.stage == "dmd2" and step < config.ode_updates
        todo = stages.phases(config, networks, step)
        if follows_ode:
            losses = partial(answered_losses, choice_weight=self.ode_choice_weight)
            todo = [replace(phase, losses=losses) for phase in todo]
        if shares := self.ode_call_shares if follows_ode else self.dmd_call_shares:
            todo = [replace(phase, draw_last_call=partial(draw_by_shares, shares=shares)) for phase in todo]
        return todo
