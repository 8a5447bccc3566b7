"""The settings of a training run, checked, and how they are compared with those of a saved run."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..sampler import SAMPLERS

STAGES = ("flow", "cfg", "dmd2")
PARTS = ("lora", "full")
PRECISIONS = ("float32", "bfloat16", "auto")

OLD_NAMES = {
    "critic_learning_rate": "fake_learning_rate",
    "critic_rank": "fake_rank",
    "critic_updates": "fake_updates",
    "critic_warmup": "fake_warmup",
    "guidance": "guidance_w",
    "guidance_max": "guidance_w_max",
    "guidance_min": "guidance_w_min",
    "normalise": "normalize",
    "rollout": "sampler",
    "student_steps": "few_steps",
}
"""Former names of settings, which run folders, LoRAs, command lines and workflows may still use."""

MAY_CHANGE = frozenset({"device", "save_every", "sample_every", "sample_clips", "sharded"})
"""Settings that do not change what is learned, so that a run may continue with other values."""

SET_CONTENT = "set_content"
"""Key of the digest of the training set's content in a run's ``config.json``; runs of older versions have none."""

GONE: dict[str, Any] = {"ode_call_shares": [], "dmd_call_shares": [], "ode_choice_weight": 0.0}
"""Settings that older versions had, with their defaults."""

CHOICES = {"stage": STAGES, "sampler": SAMPLERS, "train": PARTS, "precision": PRECISIONS}
"""Settings that are one of a few words."""
SHARES = "beta1 beta2 ema_decay"
COUNTS = "total_steps batch_size rank few_steps ode_substeps fake_rank sample_clips"
POSITIVE = "learning_rate ode_learning_rate fake_learning_rate shift clip_norm"
NOT_NEGATIVE = (
    "real_shift guidance_w guidance_w_min ode_updates fake_updates fake_warmup save_every sample_every"
)
RULES = (
    (SHARES.split(), lambda value: 0 <= value < 1, "must be 0 or more and less than 1"),
    (COUNTS.split(), lambda value: value >= 1, "must be at least 1"),
    (POSITIVE.split(), lambda value: value > 0, "must be greater than 0"),
    (NOT_NEGATIVE.split(), lambda value: value >= 0, "cannot be negative"),
)
"""Which numbers the settings can have."""


@dataclass(frozen=True)
class DistillConfig:
    """A training run. The defaults distill to 4 steps by DMD2 as the paper does, at a small model's learning rates.

    stage: "flow" (flow matching, eq. 9), "cfg" (guidance in one pass, eq. 6-9) or "dmd2" (few steps, eq. 4-5).
    total_steps: all steps; each updates the student, except fake_warmup of them, in which only the fake model learns.
    batch_size: clips per update, over all processes. micro_batch_size: clips per forward pass, 0 for a process's whole
        share of the batch.
    train: "lora" (adapters on frozen weights) or "full".
    expand_input: flow only; add the image channels to text-to-video weights first (paper section 3).
    learning_rate falls linearly to final_learning_rate; the paper's base stage goes from 5e-5 to 1e-5.
    beta1, beta2: AdamW's; beta1 = 0 is usual for dmd2.
    ema_decay: of the averaged weights, which are the result; at most (1 + step) / (10 + step), so that a short run
        averages over about its last tenth.
    few_steps, shift: the few-step schedule that the student is trained for.
    sampler: used to train the student; sample it with the same one afterwards.
    ode_updates: dmd2 only; updates at the start, in which one step of the student learns to reach what the guided
        teacher reaches in ode_substeps steps. Their rate falls from ode_learning_rate to learning_rate.
    fake_updates, fake_learning_rate, fake_rank: the fake model's. fake_warmup: steps before eq. 4 in which only the
        fake model learns: an untrained fake model makes eq. 4 noise.
    real_shift: weight of the fake model's low-rank branch in the real model; in the fake model it is 1.
    normalize: divide the DMD gradient by mean |x0 - x0_real| (not in the paper).
    guidance_w: w of eq. 7, which guides dmd2's real model; 0 is none.
    guidance_w_min, guidance_w_max: range of w in cfg. cfg_weight: lambda_cfg of eq. 8.
    embedded_guidance: the host's scale g, given in dmd2 to models that have a guidance embedder.
    drop_caption: share of clips trained on the empty prompt in flow and in cfg's base loss.
    sample_every, save_every: updates between sample clips and between checkpoints; 0: none (but the last checkpoint).
    precision: of the computation; trained weights are float32 in any case. "auto": bfloat16 where that is fast.
    device: "auto" uses the accelerator if there is one. sharded: split weights over processes (FSDP2).
    """

    stage: str = "dmd2"
    total_steps: int = 400
    batch_size: int = 16
    micro_batch_size: int = 0
    seed: int = 0
    train: str = "lora"
    rank: int = 32
    expand_input: bool = False
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-4
    warmup_steps: int = 10
    beta1: float = 0.0
    beta2: float = 0.95
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.99
    few_steps: int = 4
    shift: float = 5.0
    sampler: str = "euler"
    ode_updates: int = 0
    ode_substeps: int = 2
    ode_learning_rate: float = 1e-3
    fake_updates: int = 5
    fake_warmup: int = 0
    fake_learning_rate: float = 2e-4
    fake_rank: int = 32
    real_shift: float = 0.25
    normalize: bool = True
    guidance_w: float = 0.0
    guidance_w_min: float = 0.0
    guidance_w_max: float = 6.0
    cfg_weight: float = 1.0
    embedded_guidance: float = 6.0
    drop_caption: float = 0.1
    precision: str = "float32"
    gradient_checkpointing: bool = False
    sample_every: int = 0
    sample_clips: int = 4
    save_every: int = 100
    device: str = "auto"
    sharded: bool = True

    def __post_init__(self) -> None:
        self._check_choices()
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number.")
        for names, is_allowed, rule in RULES:
            for name in names:
                if not is_allowed(value := getattr(self, name)):
                    raise ValueError(f"{name} is {value}; it {rule}.")
        self._check_together()

    def _check_choices(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(choices)}.")

    def _check_together(self) -> None:
        if self.guidance_w_max < self.guidance_w_min:
            raise ValueError(
                f"guidance_w_max is {self.guidance_w_max}, less than guidance_w_min, {self.guidance_w_min}."
            )
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size is {self.batch_size}; it must be a multiple of micro_batch_size, {self.micro_batch_size}."
            )
        if self.stage != "dmd2" and (self.ode_updates or self.fake_warmup):
            raise ValueError(
                f'ode_updates is {self.ode_updates} and fake_warmup {self.fake_warmup}; both need stage "dmd2".'
            )
        if self.ode_updates + self.fake_warmup > self.total_steps - bool(self.fake_warmup):
            raise ValueError(
                f"ode_updates ({self.ode_updates}) and fake_warmup ({self.fake_warmup}) do not fit into"
                f" total_steps ({self.total_steps})."
            )
        if self.expand_input and (self.stage != "flow" or self.train != "full"):
            raise ValueError('expand_input needs stage "flow" and train "full": it adds input channels.')


def current_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their present names; see ``OLD_NAMES``."""
    return {OLD_NAMES.get(name, name): value for name, value in settings.items()}


def first_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under their first names, so that a digest of them does not change when one is renamed."""
    first = {new: old for old, new in OLD_NAMES.items()}
    return {first.get(name, name): value for name, value in settings.items()}


def check_same_run(saved: Mapping[str, Any], wanted: Mapping[str, Any], run_dir: Path | str) -> None:
    """Refuse to continue a run that was started with other settings or other weights.

    A setting that is newer than the run counts as having had its default; a removed one is ignored if it had its
    default. A run without a digest of its training set counts as a run on this set.

    Raises:
        ValueError: names every setting that differs, with both values.
    """
    stored = {k: v for k, v in current_names(saved).items() if k in wanted or v != GONE.get(k, ...)}
    defaults = {**asdict(DistillConfig()), **GONE, SET_CONTENT: wanted.get(SET_CONTENT)}
    before = {name: value for name, value in defaults.items() if name in wanted} | stored
    differing = [
        f"{name} was {before.get(name)!r} and is now {wanted.get(name)!r}"
        for name in sorted({*before, *wanted} - MAY_CHANGE)
        if before.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{run_dir} holds a run with another configuration: {'; '.join(differing)}."
            " Continue it with the settings it was started with, or choose another folder."
        )
