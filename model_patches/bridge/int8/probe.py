"""Run a MODEL once on a repeatable input: random for a HunyuanVideo, one real step of sampling for other families."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...encoders.cancel import checking_between_layers
from .blocks import repeated_blocks
from .call import Call, record_call

PROBE_TEXT_TOKENS = 32
PROBE_SIGMA = 0.83333


@dataclass(frozen=True)
class ProbeInput:
    """What an artist may choose of the input.

    Args:
        positive: the host's CONDITIONING; without it the text is random, which only a HunyuanVideo takes.
        latent: the host's LATENT, whose size counts.
    """

    seed: int = 0
    positive: list | None = None
    latent: dict | None = None

    def __str__(self) -> str:
        return f"probe of seed {self.seed}, {'random text' if self.positive is None else 'own prompt'}"


@dataclass(frozen=True)
class Probe:
    """What the DiT is given: xc (1, channels, T, H, W) in latents, context (1, L, D), pooled (1, P)."""

    xc: Tensor
    context: Tensor
    pooled: Tensor | None
    guidance: Tensor | None


@dataclass(frozen=True)
class ProbeResult:
    """Output of the DiT, and every block's output by name; float32 on the CPU."""

    output: Tensor
    blocks: dict[str, Tensor]


def make_probe(
    patcher: ModelPatcher,
    *,
    seed: int = 0,
    size: tuple[int, int, int] = (2, 8, 8),
    positive: list | None = None,
) -> Probe:
    """Return a probe that fits the MODEL, of random latents; the same seed gives the same probe.

    Args:
        size: latent frames, height and width; even height and width.
        positive: the host's CONDITIONING, whose prompt is used; without it the text states are random and the
            pooled vector is zero. A random pooled vector is like no prompt's: the modulation made of it
            multiplies the error by up to four in a quarter of the probes.
    Raises:
        ValueError: the conditioning is of another model.
    """
    config = patcher.model.model_config.unet_config
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    xc = normal(1, config["in_channels"], *size)
    context = normal(1, PROBE_TEXT_TOKENS, config["context_in_dim"])
    pooled = torch.zeros(1, config["vec_in_dim"]) if config.get("vec_in_dim") else None
    if positive is not None:
        prompt = positive[0][0][:1], positive[0][1].get("pooled_output")
        context, pooled = _prompt_inputs(prompt, context, pooled)
    guidance = torch.tensor([6.0]) if config.get("guidance_embed") else None
    return Probe(xc=xc, context=context, pooled=pooled, guidance=guidance)


def _prompt_inputs(
    prompt: tuple[Tensor, Tensor | None], context: Tensor, pooled: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    states, vector = prompt
    widths = [states.shape[-1], 0 if vector is None or pooled is None else vector.shape[-1]]
    wanted = [context.shape[-1], 0 if pooled is None else pooled.shape[-1]]
    if widths != wanted:
        raise ValueError(
            f"The conditioning has text states and a pooled vector of widths {widths}; this model wants {wanted}. "
            "Connect conditioning from the encoders of this model."
        )
    return states, None if pooled is None or vector is None else vector[:1]


def run_probe(patcher: ModelPatcher, probe: Probe, *, load: bool = True, record: bool = True) -> ProbeResult:
    """Run one forward of the DiT, patches and LoRA included.

    Args:
        load: have the host load the model first; False when the caller has loaded it its own way.
        record: keep the blocks' outputs; False for their memory's sake.
    """

    def forward() -> Tensor:
        device, dtype = patcher.load_device, patcher.model.get_dtype_inference()
        tensors = (probe.xc, probe.context, probe.pooled, probe.guidance)
        xc, context, pooled, guidance = (t if t is None else t.to(device, dtype) for t in tensors)
        timestep = torch.full((1,), PROBE_SIGMA * 1000, device=device)
        dit = patcher.model.diffusion_model
        with checking_between_layers(dit):
            return dit(xc, timestep, context, pooled, guidance=guidance)

    return _run(patcher, forward, load=load, record=record)


def run_call(patcher: ModelPatcher, call: Call, *, load: bool = True, record: bool = True) -> ProbeResult:
    """Run one recorded call of the diffusion model; see ``run_probe``."""
    return _run(patcher, lambda: call.run(patcher), load=load, record=record)


def _run(patcher: ModelPatcher, forward: Callable[[], Any], *, load: bool, record: bool) -> ProbeResult:
    if load:
        comfy.model_management.load_models_gpu([patcher])
    recording = recorded_blocks(patcher.model.diffusion_model) if record else nullcontext({})
    with torch.inference_mode(), recording as blocks:
        output = forward()
    return ProbeResult(_joined(output), blocks)


@contextmanager
def recorded_blocks(dit: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record each block's (image) output while the context is open."""
    blocks: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, block in named_blocks(dit):
            hooks.enter_context(
                block.register_forward_hook(
                    lambda _m, _i, out, name=name: blocks.update({name: _copy_of_first(out)})
                )
            )
        yield blocks


def named_blocks(dit: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the transformer blocks in the order in which the model holds them."""
    for path, blocks in repeated_blocks(dit):
        for name, block in blocks.named_children():
            yield f"{path}{name}", block


def _copy_of_first(output) -> Tensor:
    """Return a copy of the first tensor of a block's output, because later blocks add to it in place."""
    parts = output if isinstance(output, (tuple, list)) else (output,)
    first = next(part for part in parts if isinstance(part, Tensor))
    return first.to("cpu", torch.float32, copy=True)


def _joined(output) -> Tensor:
    """Return a model's output as one fp32 tensor; models of picture and sound return several."""
    if isinstance(output, Tensor):
        return output.float().cpu()
    return torch.cat([_joined(part).flatten() for part in output])


def make_runner(original: ModelPatcher, chosen: ProbeInput) -> Callable[..., ProbeResult]:
    """Return a function that runs MODELs of this family on one and the same input.

    Raises:
        ValueError: a family other than HunyuanVideo without a prompt.
    """
    is_hunyuan = original.model.model_config.unet_config.get("image_model") == "hunyuan_video"
    if is_hunyuan and chosen.latent is None:
        return partial(run_probe, probe=make_probe(original, seed=chosen.seed, positive=chosen.positive))
    if chosen.positive is None:
        raise ValueError(
            f"This is a {type(original.model).__name__}. To measure it, connect positive: a prompt encoded for this "
            "model, with its start picture if it takes one."
        )
    call = record_call(original, chosen.positive, seed=chosen.seed, latent=chosen.latent)
    return partial(run_call, call=call)
