"""Eq. 10 computed by optimum-quanto or by plain torch: w_int8 = round(w * 127 / max|w|). Same integers.

quanto's own tensors do not survive in the host (state-dict keys change, LoRA no longer maps), so only its
arithmetic is used, always in fp32: in bf16 its scales would be rounded.
"""

import importlib.util

import torch
from torch import Tensor

ENGINES = ("quanto", "torch")

#: The least scale; a row of zeros would otherwise divide 0 by 0.
LEAST_SCALE = 1e-30


def check(engine: str) -> None:
    """Make sure an engine can be used.

    Raises:
        ValueError: no such engine.
        ImportError: optimum-quanto is not installed.
    """
    if engine not in ENGINES:
        raise ValueError(f"Engine is {engine!r}; it must be one of {', '.join(ENGINES)}.")
    if engine == "quanto" and not quanto_installed():
        raise ImportError(
            "optimum-quanto is not installed. Run `pip install optimum-quanto` in ComfyUI's environment, "
            "or choose the engine `torch`, which gives the same integers."
        )


def quanto_installed() -> bool:
    """Say whether optimum-quanto can be imported."""
    try:
        return importlib.util.find_spec("optimum.quanto") is not None
    except ModuleNotFoundError:
        return False


def per_row(weight: Tensor, *, engine: str) -> tuple[Tensor, Tensor]:
    """Quantize each row by its own max|w|.

    Args:
        weight: (rows, in) fp32, finite.
    Returns:
        int8 (rows, in) and fp32 scales (rows, 1).
    """
    if engine == "quanto" and len(weight) > 1:
        from optimum.quanto import AbsmaxOptimizer, qint8

        scale = AbsmaxOptimizer()(weight, qint8, axis=0).clamp(min=LEAST_SCALE)
        return torch.ops.quanto.quantize_symmetric(weight, torch.int8, 0, scale), scale
    scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp(min=LEAST_SCALE)
    return _round(weight / scale), scale


def per_tensor(weight: Tensor, absmax: Tensor, *, engine: str) -> tuple[Tensor, Tensor]:
    """Quantize all rows by one given max|w|.

    Returns:
        int8 (rows, in) and the fp32 scale ().
    """
    scale = (absmax.float() / 127).clamp(min=LEAST_SCALE)
    if engine == "quanto":
        import optimum.quanto  # noqa: F401  defines torch.ops.quanto

        return torch.ops.quanto.quantize_symmetric(weight, torch.int8, None, scale), scale
    return _round(weight / scale), scale


def _round(scaled: Tensor) -> Tensor:
    return scaled.round_().clamp_(-128, 127).to(torch.int8)
