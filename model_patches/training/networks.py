"""The networks of a training stage, built from one host DiT, and which of their parameters learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..dit.channels import expand_input_channels
from .adapters import FAKE, STUDENT, Role, adapter_parameters, add_adapters
from .config import DistillConfig
from .start import check_same_layout, start_adapters
from .twin import from_host, has_guidance, takes_image, with_guidance

if TYPE_CHECKING:
    from .twin import Twin

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Networks:
    """The roles of a stage; ``modules`` are the networks behind them, only one if adapters make all the roles.

    teacher: cfg and dmd2. real, fake: dmd2 only. image: the model takes known frames.
    """

    student: Role
    modules: tuple["Twin", ...]
    image: bool
    teacher: Role | None
    real: Role | None
    fake: Role | None

    def parameters(self, config: DistillConfig) -> dict[str, dict[str, nn.Parameter]]:
        """Return the parameters that learn, by "student" and "fake"."""
        lora = config.train == "lora"
        model = self.student.model
        student = adapter_parameters(model, STUDENT) if lora else dict(model.named_parameters())
        if self.fake is None:
            return {STUDENT: student}
        return {STUDENT: student, FAKE: adapter_parameters(self.fake.model, FAKE)}


def starting_weights(config: DistillConfig, host: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the student's first weights: the given ones, with the input or the embedder that the stage needs.

    Raises:
        ValueError: the stage cannot start from these weights.
    """
    if config.expand_input:
        if takes_image(host):
            raise ValueError("expand_input is set, but the weights take an image already; unset it.")
        return expand_input_channels(host)
    if config.stage == "cfg" and not has_guidance(host):
        if config.train == "lora":
            raise ValueError(
                'The weights have no guidance embedder, which a LoRA cannot add. Use train "full" for cfg.'
            )
        return with_guidance(host)
    return dict(host)


def build_networks(
    config: DistillConfig,
    host: Mapping[str, Tensor],
    device: torch.device | str,
    start: Mapping[str, Tensor] | None = None,
) -> Networks:
    """Build a stage's networks on a device.

    Args:
        host: the given weights in the host's names; teacher, real and fake model stay theirs.
        start: weights that the student starts with instead of those of ``host``.

    Raises:
        ValueError: the student cannot start there; see ``start``.
    """
    start = start or {}
    check_same_layout(host, start)
    lora = config.train == "lora"
    first = starting_weights(config, host if lora else {**host, **start})
    shared = _frozen_network(config, host, device) if lora or config.stage != "flow" else None
    model = shared if lora and shared else _network(config, first, device, torch.float32)
    if lora and start:
        start_adapters(model, host, start)

    def role(stages: tuple[str, ...], **weights: float) -> Role | None:
        return Role(shared, weights, config.precision) if shared and config.stage in stages else None

    return Networks(
        student=Role(model, {STUDENT: 1.0}, config.precision),
        modules=tuple({id(m): m for m in (shared, model) if m is not None}.values()),
        image=takes_image(first),
        teacher=role(("cfg", "dmd2")),
        real=role(("dmd2",), fake=config.real_shift),
        fake=role(("dmd2",), fake=1.0),
    )


def _frozen_network(config: DistillConfig, host: Mapping[str, Tensor], device: torch.device | str) -> "Twin":
    """Return the given weights as a frozen network with the adapters that the stage needs."""
    ranks = {STUDENT: config.rank} if config.train == "lora" else {}
    if config.stage == "dmd2":
        ranks[FAKE] = config.fake_rank
    model = _network(config, host, device, DTYPES[config.precision], share=True)
    model.requires_grad_(False)
    if ranks:
        add_adapters(model, ranks, seed=config.seed)
    return model


def _network(
    config: DistillConfig,
    host: Mapping[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    share: bool = False,
) -> "Twin":
    model = from_host(host, dtype=dtype, share=share)
    nn.Module.to(model, device)  # diffusers' own is typed for a call without one
    if config.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    return model
