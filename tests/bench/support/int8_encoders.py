"""Text encoders of the host: error from file to int8 file to the stock loader."""

from pathlib import Path

import pytest
from magic141.model_patches.int8.quantize import QuantizationPlan

PLAN = QuantizationPlan()


def measure_text_encoders(folder: Path) -> dict[str, float]:
    """Quantize a tiny text encoder of each kind, open it with the stock loader, and compare with fp32."""
    from magic141.tests.support.family_files import quantize_found, relative_error, write_weights
    from magic141.tests.support.tiny_text_encoders import ENCODERS, shrink_host, states

    source, target = folder / "encoder.safetensors", folder / "encoder_int8.safetensors"
    errors = {}
    for name, encoder in ENCODERS.items():
        with pytest.MonkeyPatch.context() as patch:
            shrink_host(patch, encoder)
            quantize_found(write_weights(source, encoder.weights()), target, PLAN)
            plain, quantized = (states(encoder.open(path)) for path in (source, target))
        errors[name] = relative_error(quantized, plain)
    figures = {f"encoder_rel_error_{name}": error for name, error in errors.items()}
    return figures | {"encoders_quantized": len(errors), "encoder_rel_error_max": max(errors.values())}
