"""The losses of every stage, from one micro-batch of clips."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sampler import Denoise, few_step_sigmas, sample_euler
from . import losses
from .adapters import FAKE, STUDENT, Role
from .batch import TrainingBatch
from .config import DistillConfig
from .networks import Networks
from .sampling import draw_dmd_sigma, draw_last_call, draw_sigma, guided_denoiser, sample
from .twin import Conditions

UNGUIDED = 1.0
"""The host's scale g that a guidance embedder is given where a clip or a target is not guided."""


@dataclass(frozen=True)
class Micro:
    """What the losses of one micro-batch are made from.

    generator: this micro-batch's own randomness, on the CPU. last_call: which call of the
    student's sampling is its last, the same on every process.
    """

    config: DistillConfig
    networks: Networks
    batch: TrainingBatch
    generator: torch.Generator
    last_call: int

    def noise(self) -> Tensor:
        """Draw noise like the latents; on the CPU, so that a seed means the same on every device."""
        shape = self.batch.latents.shape
        return torch.randn(shape, generator=self.generator).to(self.batch.latents.device)

    def sigma(self, draw: Callable[[int, float, torch.Generator], Tensor]) -> Tensor:
        return draw(len(self.batch), self.config.shift, self.generator).to(self.batch.latents.device)

    def conditions(self, *, empty: bool = False, scale: Tensor | float | None = None) -> Conditions:
        """Return the batch's conditions; ``scale`` is the embedded guidance g, the usual one if None."""
        scale = self.config.embedded_guidance if scale is None else scale
        guidance = self.batch.latents.new_ones(len(self.batch)) * scale
        return Conditions.of(self.batch, image=self.networks.image, empty=empty, guidance=guidance)


Losses = dict[str, Tensor]


def flow_losses(micro: Micro) -> Losses:
    """Flow matching on the data (eq. 9), a share of the captions dropped."""
    clean, noise = micro.batch.latents, micro.noise()
    sigma = micro.sigma(draw_sigma)
    # the data are unguided and learned at that scale; what the model makes at the usual scale stays guided
    velocity = _with_dropped_captions(micro, losses.add_noise(clean, noise, sigma), sigma)
    return {"loss": losses.flow_matching_loss(velocity, clean, noise)}


def cfg_losses(micro: Micro) -> Losses:
    """CFG distillation (eq. 6-9): the student, given g = 1 + w, matches the teacher guided by w."""
    config, teacher, student = micro.config, micro.networks.teacher, micro.networks.student
    assert teacher is not None
    clean, noise = micro.batch.latents, micro.noise()
    sigma = micro.sigma(draw_sigma)
    noisy = losses.add_noise(clean, noise, sigma)
    span = config.guidance_w_max - config.guidance_w_min
    guidance_w = config.guidance_w_min + span * torch.rand(len(clean), generator=micro.generator)
    guidance_w = guidance_w.to(clean.device)
    with torch.no_grad():
        conditional = teacher.velocity(noisy, sigma, micro.conditions(scale=UNGUIDED))
        unconditional = teacher.velocity(noisy, sigma, micro.conditions(scale=UNGUIDED, empty=True))
        guided = losses.guided(conditional, unconditional, guidance_w)
    matched = student.velocity(noisy, sigma, micro.conditions(scale=1 + guidance_w))
    cfg = losses.cfg_distillation_loss(matched, guided)
    base = losses.flow_matching_loss(_with_dropped_captions(micro, noisy, sigma), clean, noise)
    return {"loss": config.cfg_weight * cfg + base, "cfg": cfg, "base": base}  # eq. 8


def _with_dropped_captions(micro: Micro, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Return the student's unguided velocity; a share of the clips of the batch has the empty prompt."""
    dropped = torch.rand(len(noisy), generator=micro.generator) < micro.config.drop_caption
    conditions = micro.conditions(scale=UNGUIDED)
    if dropped.any():
        empty = micro.conditions(scale=UNGUIDED, empty=True)
        conditions = mixed_conditions(conditions, empty, dropped.to(noisy.device))
    return micro.networks.student.velocity(noisy, sigma, conditions)


def mixed_conditions(prompted: Conditions, empty: Conditions, dropped: Tensor) -> Conditions:
    """Return conditions in which the clips of ``dropped`` (B,) have the empty prompt's, padded to one length."""
    length = max(prompted.states.shape[1], empty.states.shape[1])

    def padded(conditions: Conditions) -> tuple[Tensor, Tensor]:
        missing = length - conditions.states.shape[1]
        return F.pad(conditions.states, (0, 0, 0, missing)), F.pad(conditions.mask, (0, missing))

    (states, mask), (empty_states, empty_mask) = padded(prompted), padded(empty)
    return replace(
        prompted,
        states=torch.where(dropped[:, None, None], empty_states, states),
        mask=torch.where(dropped[:, None], empty_mask, mask),
        pooled=torch.where(dropped[:, None], empty.pooled, prompted.pooled),
    )


def state_before_last_call(micro: Micro, denoise: Denoise) -> tuple[Tensor, Tensor]:
    """Return the state that the last call of the student's sampling starts from, and the schedule (N + 1,)."""
    config = micro.config
    sigmas = few_step_sigmas(config.few_steps, config.shift)
    before = sigmas[: micro.last_call + 1]
    return sample(denoise, micro.noise(), before, sampler=config.sampler, generator=micro.generator), sigmas


def student_clip(micro: Micro) -> Tensor:
    """Return the clean latent of the student's few-step sampling; differentiable where gradients are on."""
    denoise = micro.networks.student.denoiser(micro.conditions())
    state, sigmas = state_before_last_call(micro, denoise)
    return denoise(state, sigmas[micro.last_call])


@dataclass(frozen=True)
class StudentStep:
    """One step of the student's sampling: the state (B, C, T, H, W) before it, and sigma (0-dim) before and after."""

    start: Tensor
    sigma: Tensor
    following: Tensor
    conditions: Conditions


def student_step(micro: Micro) -> StudentStep:
    """Return the step of the last call of the student's sampling, from the state that the student reaches itself."""
    conditions = micro.conditions()
    start, sigmas = state_before_last_call(micro, micro.networks.student.denoiser(conditions))
    return StudentStep(start, sigmas[micro.last_call], sigmas[micro.last_call + 1], conditions)


def student_velocity(micro: Micro, step: StudentStep) -> Tensor:
    """Return the velocity that the student predicts at the start of a step; differentiable."""
    sigma = step.sigma.to(step.start).expand(len(step.start))
    return micro.networks.student.velocity(step.start, sigma, step.conditions)


def ode_losses(micro: Micro) -> Losses:
    """Train one step of the student to end where several of the guided teacher end, from states it reaches itself."""
    step = student_step(micro)
    end, velocity = teacher_endpoint(micro, step.start), student_velocity(micro, step)
    return {"ode": losses.ode_step_loss(velocity, step.start, end, step.sigma - step.following)}


@torch.no_grad()
def teacher_endpoint(micro: Micro, start: Tensor) -> Tensor:
    """Return the state that the guided teacher reaches over the span of the student's last call."""
    config, teacher = micro.config, micro.networks.teacher
    assert teacher is not None

    def denoiser(empty: bool) -> Denoise:
        return teacher.denoiser(micro.conditions(empty=empty))

    sigmas = few_step_sigmas(config.few_steps * config.ode_substeps, config.shift)
    first, last = (call * config.ode_substeps for call in (micro.last_call, micro.last_call + 1))
    return sample_euler(guided_denoiser(denoiser, config.guidance_w), start, sigmas[first : last + 1])


def fake_losses(micro: Micro) -> Losses:
    """Train the fake model on the student's clips (eq. 5)."""
    fake = micro.networks.fake
    assert fake is not None
    with torch.no_grad():
        generated = student_clip(micro)
    noise, sigma = micro.noise(), micro.sigma(draw_dmd_sigma)
    velocity = fake.velocity(losses.add_noise(generated, noise, sigma), sigma, micro.conditions())
    return {"critic": losses.flow_matching_loss(velocity, generated, noise)}


def generator_losses(micro: Micro) -> Losses:
    """Move the student's clips from where the fake model places them to where the real model does (eq. 4)."""
    generated = student_clip(micro)
    with torch.no_grad():
        gradient = _dmd_gradient(micro, generated.detach())
    return {
        "generator": losses.surrogate_loss(generated, gradient),
        "gradient": gradient.abs().mean(),
        "motion": relative_motion(generated.detach(), micro.batch.latents),
    }


def _dmd_gradient(micro: Micro, generated: Tensor) -> Tensor:
    """Return the gradient of eq. 4 for a guided real model; the student then needs no guidance (section 4.2)."""
    config, real, fake = micro.config, micro.networks.real, micro.networks.fake
    assert real is not None
    assert fake is not None
    sigma = micro.sigma(draw_dmd_sigma)
    noisy = losses.add_noise(generated, micro.noise(), sigma)
    conditions = micro.conditions()
    velocity = real.velocity(noisy, sigma, conditions)
    if config.guidance_w > 0:
        unconditional = real.velocity(noisy, sigma, micro.conditions(empty=True))
        velocity = losses.guided(velocity, unconditional, config.guidance_w)
    real_clean = losses.denoised_estimate(noisy, velocity, sigma)
    fake_clean = losses.denoised_estimate(noisy, fake.velocity(noisy, sigma, conditions), sigma)
    return losses.dmd_gradient(generated, real_clean, fake_clean, normalize=config.normalize)


def relative_motion(latents: Tensor, clean: Tensor) -> Tensor:
    """Return how much clips change from frame to frame, as a share of the data's change; NaN for one frame."""
    if clean.shape[2] == 1:
        return clean.new_tensor(float("nan"))
    return latents.diff(dim=2).abs().mean() / clean.diff(dim=2).abs().mean().clamp_min(1e-6)


@dataclass(frozen=True)
class Phase:
    """One optimizer update: who learns (``STUDENT`` or ``FAKE``), in which role, from which losses (the first of them).

    name: unique in a step; seeds the phase's randomness. draw_last_call: from a number of steps and a generator, draws
    which call of the student's sampling is the last; every process must draw the same.
    """

    name: str
    learner: str
    role: Role
    losses: Callable[[Micro], Losses]
    draw_last_call: Callable[[int, torch.Generator], int] = draw_last_call


Phases = Callable[[DistillConfig, Networks, int], list[Phase]]


def phases(config: DistillConfig, networks: Networks, step: int) -> list[Phase]:
    """Return the updates of a step: one of the student; in dmd2, those of the fake model before it.

    Source of dmd2's order: Self-Forcing and CausVid start from the teacher's ODE; then eq. 5 alone, then both.
    """
    if config.stage != "dmd2":
        losses = {"flow": flow_losses, "cfg": cfg_losses}[config.stage]
        return [Phase("student", STUDENT, networks.student, losses)]
    if step < config.ode_updates:
        return [Phase("student", STUDENT, networks.student, ode_losses)]
    assert networks.fake is not None
    critics = [Phase(f"critic{i}", FAKE, networks.fake, fake_losses) for i in range(config.fake_updates)]
    if step < config.ode_updates + config.fake_warmup:
        return critics
    return [*critics, Phase("student", STUDENT, networks.student, generator_losses)]


def num_student_updates(step: int, config: DistillConfig) -> int:
    """Return how many updates of the student come before a step: its number without the fake model's warm-up."""
    return step - min(max(0, step - config.ode_updates), config.fake_warmup)
