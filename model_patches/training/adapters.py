"""Low-rank adapters (peft) on a twin, and the roles one network plays by weighting them.

Roles differ only in the weights of the adapters: the fake model has its own branch at 1, the real model has the same
branch at ``real_shift``, the base has none. All adapters stay active; a role sets their weights.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..dit.keys import HALVES_SWAPPED, HOST_TO_PARTS, PART_TO_HOST, split_key
from ..sampler import Denoise
from .twin import Conditions, predict_velocity

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

    from .twin import Twin

STUDENT, FAKE = "student", "fake"
ADAPTED_STACKS = ("transformer_blocks.", "single_transformer_blocks.")
ADAPTED_ENDS = ("norm_out.linear", "proj_out")
LORA_PREFIX = "diffusion_model."
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"


def adapted_modules(model: nn.Module) -> list[str]:
    """Return the names of the linear layers that get adapters: all of the blocks, and the output."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (name.startswith(ADAPTED_STACKS) or name in ADAPTED_ENDS)
    ]


def add_adapters(model: nn.Module, ranks: Mapping[str, int], *, seed: int) -> None:
    """Freeze a twin and put trainable float32 adapters of these names and ranks on it; they start at zero."""
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    targets = adapted_modules(model)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # two adapters are meant
        torch.manual_seed(seed)
        for name, rank in ranks.items():
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
            inject_adapter_in_model(config, model, adapter_name=name)
    for layer in adapter_layers(model):
        layer.set_adapter(list(ranks))
    for name in ranks:
        for parameter in adapter_parameters(model, name).values():
            parameter.data = parameter.data.float()


def adapter_layers(model: nn.Module) -> Iterator["LoraLayer"]:
    """Yield the layers that hold adapters."""
    from peft.tuners.lora import LoraLayer

    return (module for module in model.modules() if isinstance(module, LoraLayer))


def adapter_parameters(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """Return the parameters of one adapter by name."""
    inside = (f".lora_A.{adapter}.", f".lora_B.{adapter}.")
    return {name: p for name, p in model.named_parameters() if any(part in name for part in inside)}


@dataclass(frozen=True)
class Role:
    """A network with its adapters weighted: student, real model, fake model or teacher.

    precision: "bfloat16" computes in bfloat16, whatever the weights are kept in.
    """

    model: "Twin"
    weights: Mapping[str, float] = field(default_factory=dict)
    precision: str = "float32"

    def activate(self) -> None:
        """Weight the adapters; needed before backward too, where checkpointed blocks are computed again."""
        for layer in adapter_layers(self.model):
            for name in layer.lora_A:
                layer.set_scale(name, self.weights.get(name, 0.0))

    def velocity(self, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        """Return the velocity (B, C, T, H, W) in float32; sigma (B,)."""
        self.activate()
        enabled = self.precision == "bfloat16"
        with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=enabled):
            return predict_velocity(self.model, noisy, sigma, conditions)

    def denoiser(self, conditions: Conditions) -> Denoise:
        """Return ``denoise(x, sigma) -> x0`` as the samplers want it."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return x - sigma * self.velocity(x, sigma.to(x).expand(len(x)), conditions)

        return denoise


def lora_for_host(weights: Mapping[str, Tensor], adapter: str = STUDENT) -> dict[str, Tensor]:
    """Return an adapter as a LoRA in the names that the host's stock loader reads.

    Where the host fuses what the twin keeps apart, the factors are joined exactly: A stacked, B block-diagonal.

    Args:
        weights: as ``adapter_parameters`` names them.
    """
    lora = {}
    for host, parts in _by_host_module(weights, adapter).items():
        down = torch.cat([weights[f"{part}.lora_A.{adapter}.weight"] for part in parts])
        up = torch.block_diag(*[weights[f"{part}.lora_B.{adapter}.weight"] for part in parts])
        if split_key(f"{host}.weight").module in HALVES_SWAPPED:
            up = torch.cat(up.chunk(2)[::-1])
        lora[f"{LORA_PREFIX}{host}.lora_A.weight"] = down.contiguous()
        lora[f"{LORA_PREFIX}{host}.lora_B.weight"] = up.contiguous()
    return lora


def _by_host_module(weights: Mapping[str, Tensor], adapter: str) -> dict[str, list[str]]:
    """Return host module -> the twin's modules it is made of, all of which have the adapter."""
    suffix = f".lora_A.{adapter}.weight"
    modules = {}
    for name in weights:
        if name.endswith(suffix):
            key = split_key(f"{name.removesuffix(suffix)}.weight")
            host = PART_TO_HOST[key.module]
            parts = [part.replace("{i}", key.index) for part in HOST_TO_PARTS[host]]
            modules[host.replace("{i}", key.index)] = parts
    return modules


def _changes(lora: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the host weights that a LoRA changes, each with factors A and B; its alpha is in B.

    Raises:
        ValueError: it holds tensors that this pack does not read.
    """
    unread = set(lora)
    for name, down in lora.items():
        module = name.removesuffix(DOWN)
        if module == name or module + UP not in lora:
            continue
        up = lora[module + UP]
        if (alpha := lora.get(module + ALPHA)) is not None:
            up = up.float() * (float(alpha) / down.shape[0])
        yield f"{module.removeprefix(LORA_PREFIX)}.weight", down, up
        unread -= {name, module + UP, module + ALPHA}
    if unread:
        raise ValueError(
            f"The LoRA holds {min(unread)}, which this pack does not read. It reads names like "
            f"{LORA_PREFIX}double_blocks.0.img_mlp.0{DOWN}, with {UP} and perhaps {ALPHA} of the same layer."
        )


def changed_by_lora(host: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the host weights that a LoRA from ``lora_for_host`` changes, in float32 with the LoRA added.

    Raises:
        ValueError: it does not fit: its names are another program's, or it was made for another model.
    """
    keys = [key for key, _, _ in _changes(lora)]
    if not keys:
        raise ValueError("The LoRA is empty: it changes no weight of this model.")
    if missing := [key for key in keys if key not in host]:
        raise ValueError(
            f"The LoRA was made for another model: it changes {missing[0]}, which this one does not have. Start from"
            " one that was trained on these weights."
        )
    return merge_lora({key: host[key].float() for key in keys}, lora)


def merge_lora(host: Mapping[str, Tensor], lora: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return host weights with a LoRA added at the strength of its alpha, in the weights' own precision."""
    merged = dict(host)
    for key, down, up in _changes(lora):
        weight = merged[key]
        change = (up.float() @ down.float()).to(weight.device)
        merged[key] = (weight.float() + change).to(weight.dtype)
    return merged
