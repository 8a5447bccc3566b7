"""The training loop: phases of a step, gradient steps, averaged weights, checkpoints, and when to stop.

Everything random follows from (seed, step, phase, micro-batch), so a resumed run repeats its losses to the bit.
"""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..encoders.cancel import checking_between_layers
from ..sampler import few_step_sigmas
from .adapters import FAKE, STUDENT
from .batch import ClipSource
from .checkpoint import RunFolder
from .config import DistillConfig
from .networks import Networks
from .parallel import Processes, average_gradients, gathered, my_micro_batches
from .sampling import sample
from .stages import Micro, Phase, Phases, num_student_updates, phases, relative_motion


class TrainingDiverged(FloatingPointError):
    """A loss or a gradient is not finite; the message says where the last good checkpoint is."""


class Stopped(Exception):
    """The run was stopped in the middle of an update, which is repeated when the run is resumed."""


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and how.

    weights: those to start from, in the host's names; teacher, real and fake model keep them. start: weights that the
    student starts with instead, such as those that a few-step LoRA changes; a trained LoRA then includes that
    difference. sample_source: its first clips are sampled for the reports; ``source`` if None. phases: the updates of
    every step. identity: values behind ``phases`` that must be the same when a run is resumed.
    """

    config: DistillConfig
    source: ClipSource
    weights: Mapping[str, Tensor]
    start: Mapping[str, Tensor] = field(default_factory=dict)
    sample_source: ClipSource | None = None
    phases: Phases = phases
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepReport:
    """The outcome of a step.

    step: how many are done. updates: how many of them updated the student; the others were the fake model's
    warm-up. losses: by name. motion: frame-to-frame change of the student's clips over the data's (1 as much, 0
    static), None where not measured or of one frame. samples: (B, C, T, H, W) latents of the averaged student every
    ``sample_every`` steps, None in between and while the student does not learn.
    """

    step: int
    updates: int
    total: int
    losses: dict[str, float]
    motion: float | None
    samples: Tensor | None


def learning_rate(step: int, config: DistillConfig) -> float:
    """Return the student's learning rate at a step: it warms up and then falls, both linearly.

    It does so twice: from ode_learning_rate to learning_rate while the student follows the ODE, and from learning_rate
    to final_learning_rate from the student's next update on.
    """
    if step < config.ode_updates:
        start, end, last = config.ode_learning_rate, config.learning_rate, config.ode_updates - 1
    else:
        start, end = config.learning_rate, config.final_learning_rate
        before = config.ode_updates + config.fake_warmup
        step, last = step - before, config.total_steps - before - 1
    if step < config.warmup_steps:
        return start * max(0, step + 1) / (config.warmup_steps + 1)
    progress = (step - config.warmup_steps) / max(1, last - config.warmup_steps)
    return start + (end - start) * min(1.0, progress)


def seeded(*parts: str | int) -> torch.Generator:
    """Return a CPU generator whose seed is a digest of these parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def sample_generator(config: DistillConfig) -> torch.Generator:
    """Return the generator that sample clips are drawn with, the same every time."""
    return seeded(config.seed, "sample")


class Trainer:
    """One run in one process (of possibly many)."""

    def __init__(self, task: Task, networks: Networks, processes: Processes, folder: RunFolder) -> None:
        self.config, self.source, self.networks = task.config, task.source, networks
        self.phases = task.phases
        self.sample_source = task.source if task.sample_source is None else task.sample_source
        self.processes, self.folder = processes, folder
        config = self.config
        self.micro_indices, self.micro_size = my_micro_batches(config, processes)
        self.parameters = networks.parameters(config)
        rates = {STUDENT: config.learning_rate, FAKE: config.fake_learning_rate}
        self.optimizers = {
            name: _optimizer(config, list(parameters.values()), rates[name])
            for name, parameters in self.parameters.items()
        }
        self.average = {
            name: parameter.detach().clone() for name, parameter in self.parameters[STUDENT].items()
        }
        self.step, self.phases_done = folder.load(self._state(), processes)
        self.saved_step = self.step
        if processes.is_first:
            folder.start_log(self.step)

    def run(self, on_step: Callable[[StepReport], None] | None, should_stop: Callable[[], bool]) -> None:
        """Train until the end, or until some process's ``should_stop``; then save."""
        with contextlib.suppress(Stopped), self._stopping_in_updates(should_stop):
            self._run(on_step, should_stop)
        if self.saved_step != self.step or (self.step and self.phases_done):
            self.save()

    def _run(self, on_step: Callable[[StepReport], None] | None, should_stop: Callable[[], bool]) -> None:
        while self.step < self.config.total_steps and not self.processes.any(should_stop()):
            report = self._step()
            if self.processes.is_first:
                self.folder.log(step=report.step, motion=report.motion, **report.losses)
            if self.config.save_every and self.step % self.config.save_every == 0:
                self.save()
            if on_step is not None:
                on_step(report)

    @contextmanager
    def _stopping_in_updates(self, should_stop: Callable[[], bool]) -> Iterator[None]:
        """Let every call of a network stop between two of its blocks: a step of a large model takes minutes.

        With several processes a stop waits for the end of the step, where all of them ask.
        """

        def ask() -> None:
            if should_stop():
                raise Stopped

        networks = self.networks.modules if self.processes.size == 1 else ()
        with checking_between_layers(*networks, check=ask):
            yield

    def save(self) -> None:
        """Write a checkpoint of the step that is done."""
        self.folder.save(self.step, self._state(), self.processes, phases=self.phases_done)
        self.saved_step = self.step

    def _step(self) -> StepReport:
        for group in self.optimizers[STUDENT].param_groups:
            group["lr"] = learning_rate(self.step, self.config)
        values: dict[str, float] = {}
        todo = self.phases(self.config, self.networks, self.step)
        for phase in todo[self.phases_done :]:
            values |= self._update(phase)
            self.phases_done += 1
        learned = any(phase.learner == STUDENT for phase in todo)
        if learned:
            self._update_average()
        self.step, self.phases_done = self.step + 1, 0
        samples, motion = None, values.pop("motion", None)
        if learned and self.config.sample_every and self.step % self.config.sample_every == 0:
            with contextlib.suppress(Stopped):  # the step itself is done
                samples, motion = self.sample()
        if motion is not None and math.isnan(motion):
            motion = None
        updates = num_student_updates(self.step, self.config)
        return StepReport(self.step, updates, self.config.total_steps, values, motion, samples)

    def _update(self, phase: Phase) -> dict[str, float]:
        """Do one optimizer update and return its losses, averaged over the step's whole batch."""
        parameters, optimizer = self.parameters[phase.learner], self.optimizers[phase.learner]
        for any_optimizer in self.optimizers.values():
            any_optimizer.zero_grad()  # adapters of other roles get zeros as gradients, too
        generator = seeded(self.config.seed, self.step, phase.name)
        last_call = phase.draw_last_call(self.config.few_steps, generator)
        sums: dict[str, Tensor] = {}
        for index in self.micro_indices:
            losses = phase.losses(self._micro(phase, index, last_call))
            phase.role.activate()
            (next(iter(losses.values())) / len(self.micro_indices)).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(self.micro_indices)
        if not self.config.sharded:
            average_gradients(parameters.values(), self.processes)
        norm = nn.utils.clip_grad_norm_(list(parameters.values()), self.config.clip_norm)
        means = self.processes.mean(sums)
        self._check_finite(phase, {**means, "gradient norm": float(gathered(norm))})
        optimizer.step()
        return means

    def _micro(self, phase: Phase, index: int, last_call: int) -> Micro:
        generator = seeded(self.config.seed, self.step, phase.name, index)
        rows = torch.randint(len(self.source), (self.micro_size,), generator=generator)
        batch = self.source.batch(rows, generator).to(self.processes.device)
        return Micro(self.config, self.networks, batch, generator, last_call)

    def _check_finite(self, phase: Phase, values: dict[str, float]) -> None:
        wrong = {k: v for k, v in values.items() if not math.isfinite(v) and k != "motion"}
        if wrong:
            saved = "No checkpoint was saved yet."
            if self.saved_step:
                saved = f"The last good checkpoint is {self.folder.checkpoint(self.saved_step)}."
            raise TrainingDiverged(
                f"Training diverged at step {self.step + 1} ({phase.name}): "
                + ", ".join(f"{name} is {value}" for name, value in wrong.items())
                + f". {saved} Lower the learning rates (student {self.config.learning_rate}, fake model"
                f" {self.config.fake_learning_rate}) and start in another folder, or check the data."
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights towards the student's; faster in its first steps."""
        done = num_student_updates(self.step, self.config)
        decay = min(self.config.ema_decay, (1 + done) / (10 + done))
        for name, parameter in self.parameters[STUDENT].items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def averaged_student(self):
        """Put the averaged weights into the student while the context is open."""
        trained = {name: p.detach().clone() for name, p in self.parameters[STUDENT].items()}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(trained)

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.parameters[STUDENT].items():
            parameter.copy_(weights[name])

    @torch.no_grad()
    def sample(self) -> tuple[Tensor, float]:
        """Return clips (B, C, T, H, W) of the averaged student from fixed rows and noise, and their motion."""
        generator = sample_generator(self.config)
        rows = torch.arange(min(self.config.sample_clips, len(self.sample_source)))
        batch = self.sample_source.batch(rows, generator).to(self.processes.device)
        micro = Micro(self.config, self.networks, batch, generator, 0)
        denoise = self.networks.student.denoiser(micro.conditions())
        sigmas = few_step_sigmas(self.config.few_steps, self.config.shift)
        with self.averaged_student():
            clips = sample(denoise, micro.noise(), sigmas, sampler=self.config.sampler, generator=generator)
        return clips.cpu(), float(relative_motion(clips, batch.latents))

    def _state(self) -> dict:
        """Return every tensor that a resumed run needs; loading writes into them."""
        return {
            **{f"weights.{name}": dict(parameters) for name, parameters in self.parameters.items()},
            "average": self.average,
            **{
                f"optimizer.{name}": {
                    f"{parameter_name}.{key}": value
                    for parameter_name, parameter in self.parameters[name].items()
                    for key, value in optimizer.state[parameter].items()
                }
                for name, optimizer in self.optimizers.items()
            },
        }


def _optimizer(config: DistillConfig, parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return AdamW with its state laid out, so that a checkpoint can be read into it before the first step."""
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=config.weight_decay)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter.detach()),
            "exp_avg_sq": torch.zeros_like(parameter.detach()),
        }
    return optimizer
