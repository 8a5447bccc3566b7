"""Write weights as GGUF files, as converters for ComfyUI do: matrices packed, everything else in fp32."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import torch
from torch import Tensor

KIND = gguf.GGMLQuantizationType.Q8_0
BLOCK = gguf.GGML_QUANT_SIZES[KIND][0]


def is_to_be_packed(weight: Tensor) -> bool:
    return weight.ndim == 2 and weight.shape[1] % BLOCK == 0


def write_gguf(path: Path, weights: Mapping[str, Tensor], architecture: str = "hyvid") -> None:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(path), architecture)
    for name, weight in weights.items():
        values, kind = weight.float().numpy(), KIND if is_to_be_packed(weight) else None
        if kind is not None:
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def unpacked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as they are once they were packed."""
    return {
        name: torch.from_numpy(
            gguf.quants.dequantize(gguf.quants.quantize(weight.float().numpy(), KIND), KIND)
        )
        if is_to_be_packed(weight)
        else weight
        for name, weight in weights.items()
    }
