"""Compare a quantized MODEL with its original on a probe: error per block, per layer and overall, and memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...int8.quantize import QuantizationPlan
from ...int8.ranking import Ranking
from ...store.cancel import Progress, no_progress
from .model import kept_layers
from .probe import ProbeInput, make_runner
from .ranking import errors_when_kept, rank_layers, ranking_lines, relative_error

LORA_KEPT = "LoRA: use any loader; its strength is kept, because it is added at use and not rounded into the integers."
LORA_IN_STOCK_FILES = (
    "This is different for a saved int8 file in stock Load Diffusion Model: ComfyUI then multiplies int8 by int8, "
    "merges the LoRA into the weights and rounds again, so most of a weak LoRA (1 %) is lost. Open the file with Load "
    "Magic141 Model; with the stock loader, Load LoRA (Bypass) loses least."
)


GOOD_ERROR, FAIR_ERROR = 0.02, 0.2

#: Entries of the host's configuration that say nothing about the shape.
NOT_SIZES = ("dtype", "device", "operations")


@dataclass(frozen=True)
class QuantizationReport:
    """Relative errors and bytes of weights."""

    output_error: float
    block_errors: dict[str, float]
    bytes_before: int
    bytes_after: int
    kept: tuple[str, ...] = ()
    kept_because: str = ""
    ranking: Ranking | None = None
    errors_when_kept: Mapping[int, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        worst = max(self.block_errors, key=lambda name: self.block_errors[name])
        lines = [
            f"Weights: {self.bytes_before / 1e6:,.1f} MB -> {self.bytes_after / 1e6:,.1f} MB "
            f"({self.bytes_after / self.bytes_before:.0%}).",
            f"Relative error of the output: {self.output_error:.2%} ({self.verdict}).",
            f"Worst block: {worst}, {self.block_errors[worst]:.2%} (errors add up from block to block).",
            *(f"  {name}: {error:.2%}" for name, error in self.block_errors.items()),
            *([f"Kept as they were: {', '.join(self.kept)} ({self.kept_because})."] if self.kept else []),
            *(ranking_lines(self.ranking.errors, self.errors_when_kept) if self.ranking else []),
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
    original: ModelPatcher,
    quantized: ModelPatcher,
    chosen: ProbeInput | None = None,
    *,
    rank: bool = False,
    progress: Progress = no_progress,
) -> QuantizationReport:
    """Run both MODELs on one probe and compare every block's output.

    Args:
        rank: also run the original once for each layer, with this layer alone quantized.
        progress: called with (layers done, layers in all).

    Raises:
        ValueError: the two MODELs are not of the same shape, or a prompt is needed.
    """
    check_same_shape(original, quantized)
    chosen = chosen or ProbeInput()
    run = make_runner(original, chosen)
    reference, result = run(original), run(quantized)
    errors = {name: relative_error(result.blocks[name], block) for name, block in reference.blocks.items()}
    kept, kept_because = kept_layers(quantized)
    report = QuantizationReport(
        output_error=relative_error(result.output, reference.output),
        block_errors=errors,
        bytes_before=original.model_size(),
        bytes_after=quantized.model_size(),
        kept=kept,
        kept_because=kept_because,
    )
    if not rank:
        return report
    comfy.model_management.load_models_gpu([original, quantized])

    def output(patcher: ModelPatcher) -> Tensor:
        return run(patcher, load=False, record=False).output

    ranking = Ranking(
        f"error of the output with this layer alone quantized; {chosen}",
        rank_layers(original, quantized, output, progress),
    )
    gains = errors_when_kept(original, quantized, output, ranking.errors)
    return replace(report, ranking=ranking, errors_when_kept=gains)


def check_same_shape(original: ModelPatcher, quantized: ModelPatcher) -> None:
    """Raise ValueError, naming what differs, unless two MODELs are of one family and size."""
    before, after = (p.model.model_config.unet_config for p in (original, quantized))
    names = [key for key in before if key not in NOT_SIZES and before[key] != after.get(key)]
    different = [f"{name} {before[name]} and {after.get(name)}" for name in names]
    if type(original.model) is not type(quantized.model):
        different.insert(0, f"{type(original.model).__name__} and {type(quantized.model).__name__}")
    if different:
        raise ValueError(
            f"These are two different models: {', '.join(different)}. Connect one before and after."
        )


def lora_advice(plan: QuantizationPlan) -> str:
    """Say how to apply a LoRA to a MODEL quantized by this plan."""
    if plan.mode == "w8a8":
        return (
            "LoRA: use any loader. W8A8 rounds the activations, and most of a weak LoRA (1 %) is lost: quantize "
            "weight-only for it."
        )
    return LORA_KEPT
