"""Quantized against original on a probe: error per block and overall, memory before and after."""

from dataclasses import dataclass

from comfy.model_patcher import ModelPatcher

from .int8_inputs import LORA_IN_STOCK_FILES, LORA_KEPT
from .int8_probe import make_probe, relative_error, run_probe

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


def compare_models(original: ModelPatcher, quantized: ModelPatcher, *, seed: int = 0) -> QuantizationReport:
    """Run both MODELs on one random probe and compare every block's output.

    Raises:
        ValueError: the two MODELs are not of the same shape.
    """
    before, after = (p.model.model_config.unet_config for p in (original, quantized))
    sizes = ("in_channels", "hidden_size", "depth", "depth_single_blocks", "context_in_dim")
    if different := [
        f"{k} {before.get(k)} and {after.get(k)}" for k in sizes if before.get(k) != after.get(k)
    ]:
        raise ValueError(
            f"These are two different models: {', '.join(different)}. Connect one before and after."
        )
    probe = make_probe(original, seed=seed)
    reference, result = run_probe(original, probe), run_probe(quantized, probe)
    errors = {name: relative_error(result.blocks[name], block) for name, block in reference.blocks.items()}
    return QuantizationReport(
        output_error=relative_error(result.output, reference.output),
        block_errors=errors,
        bytes_before=original.model_size(),
        bytes_after=quantized.model_size(),
    )
