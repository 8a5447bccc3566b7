"""Run a MODEL once on an input that is always the same: random for a HunyuanVideo, a real step for other families."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...encoders.cancel import asking_between_layers
from .blocks import repeated_blocks
from .call import Call, record_call

PROBE_TEXT_TOKENS = 32
PROBE_SIGMA = 0.83333


@dataclass(frozen=True)
class ProbeInput:
    """What an artist may say about the input.

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
        context, pooled = _fitting(prompt, context, pooled)
    guidance = torch.tensor([6.0]) if config.get("guidance_embed") else None
    return Probe(xc=xc, context=context, pooled=pooled, guidance=guidance)


def _fitting(
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
    if load:
        comfy.model_management.load_models_gpu([patcher])
    dit = patcher.model.diffusion_model
    device, dtype = patcher.load_device, patcher.model.get_dtype_inference()
    given = {k: None if v is None else v.to(device, dtype) for k, v in vars(probe).items()}
    timestep = torch.full((1,), PROBE_SIGMA * 1000, device=device)
    recording = recorded_blocks(dit) if record else nullcontext({})
    with torch.inference_mode(), recording as blocks, asking_between_layers(dit):
        output = dit(given["xc"], timestep, given["context"], given["pooled"], guidance=given["guidance"])
    return ProbeResult(output.float().cpu(), blocks)


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
    """Return a copy of the first tensor of a block's output: the blocks that follow add to the very tensor."""
    parts = output if isinstance(output, (tuple, list)) else (output,)
    first = next(part for part in parts if isinstance(part, Tensor))
    return first.to("cpu", torch.float32, copy=True)


def _joined(output) -> Tensor:
    """Return the output as one fp32 tensor; models of picture and sound have several."""
    if isinstance(output, Tensor):
        return output.float().cpu()
    return torch.cat([_joined(part).flatten() for part in output])


def probe_run(original: ModelPatcher, given: ProbeInput) -> Callable[..., ProbeResult]:
    """Return what runs a MODEL of this family on one and the same input.

    Raises:
        ValueError: a family other than HunyuanVideo without a prompt.
    """
    is_hunyuan = original.model.model_config.unet_config.get("image_model") == "hunyuan_video"
    if is_hunyuan and given.latent is None:
        return partial(run_probe, probe=make_probe(original, seed=given.seed, positive=given.positive))
    if given.positive is None:
        raise ValueError(
            f"This is a {type(original.model).__name__}. To measure it, connect positive: a prompt encoded for this "
            "model, with its start picture if it takes one."
        )
    call = record_call(original, given.positive, seed=given.seed, latent=given.latent)
    return partial(run_call, call=call)


def run_call(patcher: ModelPatcher, call: Call, *, load: bool = True, record: bool = True) -> ProbeResult:
    """Run one recorded call of the diffusion model; see ``run_probe``."""
    if load:
        comfy.model_management.load_models_gpu([patcher])
    recording = recorded_blocks(patcher.model.diffusion_model) if record else nullcontext({})
    with torch.inference_mode(), recording as blocks:
        output = call.run(patcher)
    return ProbeResult(_joined(output), blocks)
