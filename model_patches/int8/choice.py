"""Plan a quantized file from the header of its source: which weights become integers, and what it will hold."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..dit.stream import torch_dtype
from ..dit.weights_file import Header, TensorInfo
from .quantize import INT4_FORMAT, QuantizationPlan, encode_config
from .source import SourceLayout


@dataclass(frozen=True)
class FilePlan:
    """What the new file will hold.

    Args:
        tensors: everything, scales included.
        layers: the weights that will be quantized, as they are now.
        kept: names of the layers that the plan keeps as they are.
    """

    family: str
    tensors: Mapping[str, TensorInfo]
    layers: Mapping[str, TensorInfo]
    bytes_before: int
    kept: tuple[str, ...] = ()

    @property
    def bytes_after(self) -> int:
        """Bytes of the new file's tensors."""
        return num_bytes(self.tensors)

    @property
    def text(self) -> str:
        """Say what will be quantized and what it saves, with one line for layers that are alike."""
        saved, before = self.bytes_before - self.bytes_after, self.bytes_before
        kinds = Counter((re.sub(r"\d+", "*", key), *info) for key, info in self.layers.items())
        return "\n".join(
            [
                f"{self.family}: {len(self.layers)} layers would be quantized, {before / 1e6:,.1f} MB -> "
                f"{self.bytes_after / 1e6:,.1f} MB ({saved / 1e6:,.1f} MB saved). Nothing was written.",
                *(
                    f"  {name}: {count} x {' x '.join(map(str, shape))}, {dtype}"
                    for (name, dtype, shape), count in kinds.items()
                ),
                *([f"  kept as they are: {', '.join(self.kept)}"] if self.kept else []),
            ]
        )


def plan_file(header: Header, source: SourceLayout, plan: QuantizationPlan) -> FilePlan:
    """Choose the layers to quantize and list what the new file will hold.

    Raises:
        ValueError: there is nothing to quantize, or a layer to keep does not exist.
    """
    weights = source.weights(header)
    shapes = {key: info.shape for key, info in weights.items()}
    chosen = plan.choose(shapes, {key: source.layer(key) for key in source.linears}, source.blocks)
    layers = {key: weights[key] for key in chosen}
    if not layers:
        raise ValueError(
            f"{header.path.name} ({source.family}) has no Linear layers in repeated blocks that {plan.mode} can "
            "quantize."
        )
    tensors: dict[str, TensorInfo] = {}
    for key, info in weights.items():
        tensors |= _quantized(key, info, plan) if key in layers else {key: info}
    return FilePlan(source.family, tensors, layers, num_bytes(header.tensors), plan.keep)


def num_bytes(tensors: Mapping[str, TensorInfo]) -> int:
    """Return the bytes of tensors of these types and shapes."""
    return sum(math.prod(shape) * torch_dtype(dtype).itemsize for dtype, shape in tensors.values())


def _quantized(key: str, info: TensorInfo, plan: QuantizationPlan) -> dict[str, TensorInfo]:
    rows, width = info.shape
    name, config = key.removesuffix(".weight"), plan.layer_config(width)
    is_int4 = config["format"] == INT4_FORMAT
    scale_shape = () if plan.granularity == "tensor" else (rows,) if is_int4 else (rows, 1)
    return {
        key: TensorInfo("int8", (rows, width // 2 if is_int4 else width)),
        f"{name}.weight_scale": TensorInfo("float32", scale_shape),
        f"{name}.comfy_quant": TensorInfo("uint8", tuple(encode_config(config).shape)),
    }
