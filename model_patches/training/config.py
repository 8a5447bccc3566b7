"""What a training run is told: one checked, printable configuration."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..sampler import SAMPLERS

STAGES = ("flow", "cfg", "dmd2")
PARTS = ("lora", "full")
PRECISIONS = ("float32", "bfloat16", "auto")

MAY_CHANGE = frozenset({"device", "save_every", "sample_every", "sample_clips", "sharded"})
"""Settings that do not change what is learnt, so that a run may be resumed with other values."""

SET_CONTENT = "set_content"
"""Names, in a run's folder, the digest of what its data set holds; runs of older versions have none."""

GONE: dict[str, object] = {"ode_call_shares": [], "dmd_call_shares": [], "ode_choice_weight": 0.0}
"""Settings of older versions, as run folders hold them where they were left at their defaults."""


@dataclass(frozen=True)
class DistillConfig:
    """A training run. The defaults distill to 4 steps by DMD2 as the paper does, at a small model's rates.

    stage: "flow" (flow matching, eq. 9), "cfg" (guidance into one forward, eq. 6-9) or "dmd2" (few steps, eq. 4-5).
    total_steps: updates of the student; in critic_warmup of them only the fake model learns.
    batch_size: clips an update, over all processes. micro_batch_size: clips a forward, 0 for all of a process's.
    train: "lora" (adapters on frozen weights) or "full".
    expand_input: flow only; give text-to-video weights the image channels first (paper section 3).
    learning_rate falls linearly to final_learning_rate; the paper's base stage goes from 5e-5 to 1e-5.
    beta1, beta2: AdamW's; 0 as beta1 is the practice for dmd2.
    ema_decay: of the averaged weights, which are the result; at most (1 + step) / (10 + step), so that a short run
        averages over about its last tenth.
    student_steps, shift: the few-step schedule that the student is trained for.
    rollout: the sampler the student is trained with, which must be the one it is sampled with.
    ode_updates: dmd2 only; first updates, in which the student learns to cover with one of its steps what the
        guided teacher covers with ode_substeps, at ode_learning_rate, which falls to learning_rate.
    critic_updates, critic_learning_rate, critic_rank: the fake model's. critic_warmup: steps before eq. 4 in which
        it alone learns, since eq. 4 with a fake model that has learnt nothing yet is noise.
    real_shift: weight of the fake model's low-rank branch in the real model; the fake model's is 1.
    normalise: divide the DMD gradient by mean |x0 - x0_real| (not in the paper).
    guidance: w of eq. 7, what dmd2's real model is guided with; 0 is none.
    guidance_min, guidance_max: range of w in cfg. cfg_weight: lambda_cfg of eq. 8.
    embedded_guidance: the host's scale g, fed in dmd2 to models that have a guidance embedder.
    drop_caption: share of clips trained on the empty prompt in flow and cfg's base loss.
    sample_every, save_every: updates between sample clips and between checkpoints; 0 for none (but the last).
    precision: what is computed in; trained weights are float32 anyway. "auto": bfloat16 where that is quick.
    device: "auto" takes the accelerator if there is one. sharded: split weights over processes (FSDP2).
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
    student_steps: int = 4
    shift: float = 5.0
    rollout: str = "euler"
    ode_updates: int = 0
    ode_substeps: int = 2
    ode_learning_rate: float = 1e-3
    critic_updates: int = 5
    critic_warmup: int = 0
    critic_learning_rate: float = 2e-4
    critic_rank: int = 32
    real_shift: float = 0.25
    normalise: bool = True
    guidance: float = 0.0
    guidance_min: float = 0.0
    guidance_max: float = 6.0
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
        for name, choices in (
            ("stage", STAGES),
            ("rollout", SAMPLERS),
            ("train", PARTS),
            ("precision", PRECISIONS),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(choices)}.")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number.")
        for name in ("beta1", "beta2", "ema_decay"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; it must be 0 or more and less than 1.")
        for name in (
            "total_steps",
            "batch_size",
            "rank",
            "student_steps",
            "ode_substeps",
            "critic_rank",
            "sample_clips",
        ):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        for name in ("learning_rate", "ode_learning_rate", "critic_learning_rate", "shift", "clip_norm"):
            if not (value := getattr(self, name)) > 0:
                raise ValueError(f"{name} is {value}; it must be greater than 0.")
        for name in (
            "real_shift",
            "guidance",
            "guidance_min",
            "ode_updates",
            "critic_updates",
            "critic_warmup",
            "save_every",
            "sample_every",
        ):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} is {value}; it cannot be negative.")
        self._check_together()

    def _check_together(self) -> None:
        if self.guidance_max < self.guidance_min:
            raise ValueError(f"guidance_max {self.guidance_max} is below guidance_min {self.guidance_min}.")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of micro_batch_size {self.micro_batch_size}."
            )
        if self.stage != "dmd2" and (self.ode_updates or self.critic_warmup):
            raise ValueError(
                f'ode_updates is {self.ode_updates} and critic_warmup {self.critic_warmup}; both need stage "dmd2".'
            )
        if self.ode_updates + self.critic_warmup > self.total_steps - bool(self.critic_warmup):
            raise ValueError(
                f"ode_updates ({self.ode_updates}) and critic_warmup ({self.critic_warmup}) do not fit into"
                f" total_steps ({self.total_steps})."
            )
        if self.expand_input and (self.stage != "flow" or self.train != "full"):
            raise ValueError('expand_input needs stage "flow" and train "full": it adds input channels.')

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def written(self) -> dict[str, object]:
        """Return the settings as a file of this configuration gives them back: what saved ones compare with."""
        return json.loads(self.to_json())

    @classmethod
    def from_json(cls, text: str) -> "DistillConfig":
        """Read a configuration.

        Raises:
            ValueError: it holds a setting that does not exist.
        """
        values = json.loads(text)
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"No such setting: {', '.join(unknown)}. There are: {', '.join(sorted(known))}.")
        return cls(**values)


def check_same_run(saved: Mapping[str, object], wanted: Mapping[str, object], run_dir: object) -> None:
    """Refuse to resume a run that was started with other settings or other weights.

    A setting that came later than the run had its default then; one that is gone is passed over at its default. A run
    that does not know what its data set held is taken to have been on this one.

    Raises:
        ValueError: names every setting that differs, with both values.
    """
    kept = {name: value for name, value in saved.items() if name in wanted or value != GONE.get(name, ...)}
    defaults = {**DistillConfig().written(), **GONE}
    if SET_CONTENT in wanted:
        defaults[SET_CONTENT] = wanted[SET_CONTENT]
    saved = {name: value for name, value in defaults.items() if name in wanted} | kept
    differing = [
        f"{name} was {saved.get(name)!r} and is now {wanted.get(name)!r}"
        for name in sorted({*saved, *wanted} - MAY_CHANGE)
        if saved.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{run_dir} holds a run with another configuration: {'; '.join(differing)}."
            " Resume with the settings it was started with, or choose another folder."
        )
