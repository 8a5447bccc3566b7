"""Quantized against original on a probe: error per block and overall, memory before and after."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...int8.quantize import QuantizationPlan

PROBE_TEXT_TOKENS = 32
PROBE_SIGMA = 0.83333

LORA_KEPT = "LoRA: use any loader; its strength is kept, because it is added at use and not rounded into the integers."
LORA_IN_STOCK_FILES = (
    "A saved int8 file that stock Load Diffusion Model opens is another matter: there ComfyUI multiplies int8 by int8, "
    "merges a LoRA and rounds again, and much of a weak LoRA (1 %) drowns. Open the file with Load Magic141 Model; in "
    "the stock loader, Load LoRA (Bypass) loses least."
)


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
    with torch.inference_mode(), recording as blocks:
        output = dit(given["xc"], timestep, given["context"], given["pooled"], guidance=given["guidance"])
    return ProbeResult(output.float().cpu(), blocks)


@contextmanager
def recorded_blocks(dit: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record each block's (image) output while the context is open."""
    blocks: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _i, out, name=name: blocks.update({name: _copy_of_first(out)}))
        for name, block in named_blocks(dit)
    ]
    try:
        yield blocks
    finally:
        for hook in hooks:
            hook.remove()


def named_blocks(dit: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the transformer blocks in the order they run."""
    for kind in ("double_blocks", "single_blocks"):
        for i, block in enumerate(getattr(dit, kind, ())):
            yield f"{kind}.{i}", block


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Return ||result - reference|| / ||reference||."""
    return float((result - reference).norm() / reference.norm())


def _copy_of_first(output) -> Tensor:
    """Return a copy: the blocks that follow add to the very tensor."""
    first = output[0] if isinstance(output, tuple) else output
    return first.to("cpu", torch.float32, copy=True)


GOOD_ERROR, FAIR_ERROR = 0.02, 0.2


@dataclass(frozen=True)
class QuantizationReport:
    """Relative errors and bytes of weights."""

    output_error: float
    block_errors: dict[str, float]
    bytes_before: int
    bytes_after: int

    @property
    def text(self) -> str:
        worst = max(self.block_errors, key=lambda name: self.block_errors[name])
        lines = [
            f"Weights: {self.bytes_before / 1e6:,.1f} MB -> {self.bytes_after / 1e6:,.1f} MB "
            f"({self.bytes_after / self.bytes_before:.0%}).",
            f"Relative error of the output: {self.output_error:.2%} ({self.verdict}).",
            f"Worst block: {worst}, {self.block_errors[worst]:.2%} (errors add up from block to block).",
            *(f"  {name}: {error:.2%}" for name, error in self.block_errors.items()),
            LORA_KEPT,
            LORA_IN_STOCK_FILES,
        ]
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        if self.output_error <= GOOD_ERROR:
            return "as usual for int8"
        return "as usual for int4" if self.output_error <= FAIR_ERROR else "too much: compare the pictures"


def compare_models(
    original: ModelPatcher, quantized: ModelPatcher, *, seed: int = 0, positive: list | None = None
) -> QuantizationReport:
    """Run both MODELs on one probe and compare every block's output.

    Raises:
        ValueError: the two MODELs are not of the same shape.
    """
    before, after = (p.model.model_config.unet_config for p in (original, quantized))
    if before.get("image_model") != "hunyuan_video":
        raise ValueError(
            f"The report measures models of the HunyuanVideo layout; this is {type(original.model).__name__}. Compare "
            "its pictures instead: same seed and prompt, before and after."
        )
    sizes = ("in_channels", "hidden_size", "depth", "depth_single_blocks", "context_in_dim")
    if different := [
        f"{k} {before.get(k)} and {after.get(k)}" for k in sizes if before.get(k) != after.get(k)
    ]:
        raise ValueError(
            f"These are two different models: {', '.join(different)}. Connect one before and after."
        )
    probe = make_probe(original, seed=seed, positive=positive)
    reference, result = run_probe(original, probe), run_probe(quantized, probe)
    errors = {name: relative_error(result.blocks[name], block) for name, block in reference.blocks.items()}
    return QuantizationReport(
        output_error=relative_error(result.output, reference.output),
        block_errors=errors,
        bytes_before=original.model_size(),
        bytes_after=quantized.model_size(),
    )


def lora_advice(plan: QuantizationPlan) -> str:
    """Say which LoRA route to take with a MODEL quantized so."""
    if plan.mode == "w8a8":
        return (
            "LoRA: use any loader. A weak LoRA (1 %) drowns in W8A8's rounding of the activations: quantize "
            "weight-only for it."
        )
    return LORA_KEPT
