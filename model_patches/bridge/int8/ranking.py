"""Rank the quantized layers of a MODEL by the error that each alone causes at the output."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...store.cancel import Progress, no_progress
from ..int8_ops import is_quantized

#: Calls a loaded MODEL on the probe and returns its output.
Run = Callable[[ModelPatcher], Tensor]

COUNTS = (1, 2, 4, 8, 16)
SHOWN = 10


def rank_layers(
    original: ModelPatcher, quantized: ModelPatcher, run: Run, progress: Progress = no_progress
) -> dict[str, float]:
    """Return relative errors of the original's output with one layer at a time quantized, worst first.

    Args:
        run: calls a MODEL; both are loaded.
    """
    reference, errors = run(original), {}
    modules = quantized.model.diffusion_model.named_modules()
    twins = {name: module for name, module in modules if is_quantized(module)}
    for done, name in enumerate(twins, start=1):
        with replaced_layers(original, {name: twins[name]}):
            errors[name] = relative_error(run(original), reference)
        progress(done, len(twins))
    return {name: errors[name] for name in sorted(errors, key=lambda name: errors[name], reverse=True)}


def errors_when_kept(
    original: ModelPatcher, quantized: ModelPatcher, run: Run, worst: Mapping[str, float]
) -> dict[int, float]:
    """Return the quantized MODEL's error with the worst 1, 2, 4 ... layers as they were."""
    reference, originals, errors = run(original), dict(original.model.diffusion_model.named_modules()), {}
    for count in (count for count in COUNTS if count < len(worst)):
        with replaced_layers(quantized, {name: originals[name] for name in list(worst)[:count]}):
            errors[count] = relative_error(run(quantized), reference)
    return errors


@contextmanager
def replaced_layers(patcher: ModelPatcher, layers: Mapping[str, nn.Module]) -> Iterator[None]:
    """Let other modules compute the outputs of a MODEL's layers while the context is open."""
    modules = dict(patcher.model.diffusion_model.named_modules())
    with ExitStack() as hooks:
        for name, other in layers.items():
            hooks.enter_context(
                modules[name].register_forward_hook(
                    lambda _module, inputs, output, other=other: other(*inputs).to(output.dtype)
                )
            )
        yield


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Return ||result - reference|| / ||reference||."""
    return float((result - reference).norm() / reference.norm())


def ranking_lines(ranked: Mapping[str, float], kept: Mapping[int, float]) -> list[str]:
    """Say which layers are worst, and what keeping them gains."""
    shown = list(ranked.items())[:SHOWN]
    gains = "; ".join(f"{count}: {error:.2%}" for count, error in kept.items())
    return [
        f"Worst of {len(ranked)} layers, by the error of the output when only this layer is quantized:",
        *(f"  {name}: {error:.3%}" for name, error in shown),
        f"Error of the output with the worst n kept as they were: {gains}.",
        "To keep them, connect ranking to Int8 Quantize or Quantize File and set keep_worst there.",
    ]
