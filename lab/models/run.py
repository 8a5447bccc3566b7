"""What every training stage shares: resumable loops, checkpoints in the user cache, learning-rate schedule, EMA."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from ...model_patches.store.files import atomic_file
from ...model_patches.training.parallel import average_gradients, this_process
from ...tools.host import cache_dir

WARM_UP, FLAT, MAX_GRADIENT = 100, 0.6, 1.0


def stage_dir(stage: str) -> Path:
    """Return the folder of a stage's checkpoints, outside the checkout."""
    path = cache_dir() / "training" / stage
    path.mkdir(parents=True, exist_ok=True)
    return path


def save_atomically(state: dict, path: Path) -> None:
    """Write a checkpoint so that a killed process never leaves half a file."""
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


class Ema:
    """Exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's parameters; early steps move faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[key].lerp_(value, 1 - decay)


def rate_share(step: int, total: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, 1 until ``FLAT`` of the run, cosine down to 5 %."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    start = int(total * FLAT)
    if step < start:
        return 1.0
    progress = min(1.0, (step - start) / max(1, total - start))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


class Run:
    """A resumable training run of ``total`` steps over named modules and one optimizer list."""

    def __init__(
        self,
        stage: str,
        total: int,
        modules: dict[str, nn.Module],
        optimizers: list[torch.optim.Optimizer],
        *,
        ema_decay: float | None = None,
        save_every_s: float = 120.0,
    ) -> None:
        self.stage, self.total, self.modules, self.optimizers = stage, total, modules, optimizers
        self.path = stage_dir(stage) / "checkpoint.pt"
        self.ema = {k: Ema(m, ema_decay) for k, m in modules.items()} if ema_decay else {}
        self.step, self.save_every_s = 0, save_every_s
        self._peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
        if self.path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        if state["total"] != self.total:
            print(f"{self.stage}: run length changes from {state['total']} to {self.total} steps")
        self.step = state["step"]
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name, ema in self.ema.items():
            ema.shadow = state["ema"][name]
        print(f"{self.stage}: resumed at step {self.step} of {self.total}")

    def save(self) -> None:
        """Write the checkpoint; of several processes the first does."""
        if not this_process().is_first:
            return
        state = {
            "step": self.step,
            "total": self.total,
            "modules": {k: m.state_dict() for k, m in self.modules.items()},
            "optimizers": [o.state_dict() for o in self.optimizers],
            "ema": {k: e.shadow for k, e in self.ema.items()},
        }
        save_atomically(state, self.path)

    def steps(self) -> Iterator[int]:
        """Yield the steps still to do with the learning rate set, saving now and then and at the end."""
        saved = time.monotonic()
        while self.step < self.total:
            scale = rate_share(self.step, self.total)
            for optimizer, peaks in zip(self.optimizers, self._peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * scale
            yield self.step
            for name, ema in self.ema.items():
                ema.update(self.modules[name], self.step)
            self.step += 1
            if time.monotonic() - saved > self.save_every_s:
                self.save()
                saved = time.monotonic()
        self.save()

    def update(self, loss: Tensor) -> None:
        """Do one optimizer step.

        Raises:
            FloatingPointError: the loss is not finite; the last checkpoint stays as it is.
        """
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"{self.stage}: loss is {loss.item()} at step {self.step}; last checkpoint kept"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(chain.from_iterable(m.parameters() for m in self.modules.values()), this_process())
        for module in self.modules.values():
            nn.utils.clip_grad_norm_(module.parameters(), MAX_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()


class Log:
    """Print a running mean of named values every ``every`` steps, with seconds a step."""

    def __init__(self, stage: str, every: int, printer: Callable[[str], None] = print) -> None:
        self.stage, self.every, self.printer = stage, every, printer
        self._sums: dict[str, float] = {}
        self._count, self._since = 0, time.monotonic()

    def __call__(self, step: int, **values: Tensor | float) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._count += 1
        if (step + 1) % self.every == 0 and this_process().is_first:
            mean = " ".join(f"{k} {v / self._count:.5f}" for k, v in self._sums.items())
            speed = (time.monotonic() - self._since) / self._count
            self.printer(f"{self.stage} step {step + 1}: {mean} ({speed:.2f} s/step)", flush=True)
            self._sums, self._count, self._since = {}, 0, time.monotonic()
