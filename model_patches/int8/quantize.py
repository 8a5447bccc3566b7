"""Weight quantization of the DiT and the encoders: paper eq. 10 per row or per tensor, rotated, and 4 bits.

A Linear's weight W (out, in) becomes integers and scales with W ~ integers * scale. All of it is computed in
fp32, whatever the weight's dtype. The keys are the host's own: ``weight``, ``weight_scale``, ``comfy_quant``.
"""

import json
import re
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

#: The least scale; a row of zeros would otherwise divide 0 by 0.
LEAST_SCALE = 1e-30


def per_row(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize each row by its own max|w|.

    Args:
        weight: (rows, in) fp32, finite.
    Returns:
        int8 (rows, in) and fp32 scales (rows, 1).
    """
    largest = torch.maximum(weight.amax(dim=1, keepdim=True), -weight.amin(dim=1, keepdim=True))
    scale = (largest / 127).clamp(min=LEAST_SCALE)
    return (weight / scale).round_().to(torch.int8), scale  # never above 127: nothing to clamp


def per_tensor(weight: Tensor, absmax: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize all rows by one given max|w|.

    Returns:
        int8 (rows, in) and the fp32 scale ().
    """
    scale = (absmax.float() / 127).clamp(min=LEAST_SCALE)
    return (weight / scale).round_().clamp_(-128, 127).to(torch.int8), scale


#: How the key of a layer's configuration ends.
CONFIG = ".comfy_quant"

INT8_FORMAT = "int8_tensorwise"
INT4_FORMAT = "convrot_w4a4"

#: Rotation group sizes the host's kernels know, best first; a group must divide the input width.
ROTATION_GROUPS = (256, 64, 16)

#: The host's 4-bit layout needs input widths that are multiples of this.
INT4_WIDTH_MULTIPLE = 64

#: Row scales tried for 4 bits, as shares of max|w|/7: with 15 steps, clipping a few outliers lowers the error.
INT4_CLIPS = (1.0, 0.9, 0.8, 0.72, 0.64, 0.56)

#: A Linear of the transformer blocks, modulation included, in the host's and in the authors' names.
BLOCK_WEIGHT = re.compile(r"^(.*\.)?(double_blocks|single_blocks)\.\d+\..+\.weight$")

Mode = Literal["weight_only", "w8a8", "int4"]
Granularity = Literal["row", "tensor"]


@dataclass(frozen=True)
class QuantizationPlan:
    """How to quantize.

    Args:
        mode: "weight_only" multiplies in the activations' dtype (the paper); "w8a8" rotates the weights and
            lets the host multiply int8 by int8; "int4" is 4-bit weight-only.
        granularity: one scale per row of the weight, or per tensor (eq. 10 as written).
        all_linear: also quantize the embedders, the text refiner and the final layer.
        keep: names of Linears that stay as they are.
        found_by: how these names were chosen, as a text.

    Raises:
        ValueError: this mode has no such granularity.
    """

    mode: Mode = "weight_only"
    granularity: Granularity = "row"
    all_linear: bool = False
    keep: tuple[str, ...] = ()
    found_by: str = ""

    def __post_init__(self) -> None:
        if self.granularity == "tensor" and self.mode != "weight_only":
            raise ValueError(
                f"Per-tensor scales exist for weight-only int8; mode is {self.mode!r}. "
                "Choose per row, or the weight-only mode."
            )

    @property
    def entry(self) -> dict:
        """The plan as a file's header holds it."""
        fields = asdict(self)
        return fields if self.keep else {k: v for k, v in fields.items() if k not in ("keep", "found_by")}

    def choose(
        self, shapes: Mapping[str, tuple[int, ...]], layers: Mapping[str, str], blocks: Container[str]
    ) -> list[str]:
        """Return the keys of the weights to quantize.

        Args:
            shapes: of all weights.
            layers: the names of the model's Linears, by the keys of their weights.
            blocks: which of these weights lie in repeated blocks.
        Raises:
            ValueError: the model has no layer of a name to keep.
        """
        names = set(layers.values())
        if unknown := [name for name in self.keep if name not in names]:
            raise ValueError(
                f"This model has no layer {unknown[0]} to keep ({len(unknown)} of {len(self.keep)} names are not in "
                "it). The ranking was made for another model. Make one for this model with Quantization Report."
            )
        wanted = layers if self.all_linear else blocks
        return [
            key
            for key, shape in shapes.items()
            if key in wanted and layers[key] not in self.keep and self.can_quantize(shape)
        ]

    def can_quantize(self, shape: tuple[int, ...]) -> bool:
        """Say whether a Linear's weight of this shape can be quantized in this mode."""
        return len(shape) == 2 and (self.mode != "int4" or shape[1] % INT4_WIDTH_MULTIPLE == 0)

    def layer_config(self, in_features: int) -> dict:
        """Return what the host reads in a layer's ``comfy_quant``."""
        if self.mode == "int4":
            return {
                "format": INT4_FORMAT,
                "convrot_groupsize": rotation_group(in_features),
                "linear_dtype": "int8",
                "full_precision_matrix_mult": True,
            }
        if self.mode == "weight_only":
            return {"format": INT8_FORMAT, "full_precision_matrix_mult": True}
        group = rotation_group(in_features)
        return {"format": INT8_FORMAT} | ({"convrot": True, "convrot_groupsize": group} if group else {})


def rotation_group(in_features: int) -> int:
    """Return the largest rotation group that divides the input width, 0 when none does."""
    return next((group for group in ROTATION_GROUPS if in_features % group == 0), 0)


def quantize_rows(
    weight: Tensor, plan: QuantizationPlan, *, absmax: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Quantize a weight, or some of its rows.

    Args:
        weight: (rows, in), any floating dtype.
        absmax: the whole tensor's max|w|, for per-tensor scales when ``weight`` is only some rows.

    Returns:
        The integers, int8 (rows, in), or (rows, in/2) for 4 bits; the scales, fp32 (rows, 1), () per
        tensor, (rows,) for 4 bits.
    Raises:
        ValueError: NaN or Inf among the weights.
    Source: paper eq. 10.
    """
    weight, group = weight.float(), rotation_group(weight.shape[1])
    if plan.mode != "weight_only" and group:
        weight = rotate(weight, group)
    if plan.mode == "int4":
        integers, scale = _quantize_int4(weight)
    elif plan.granularity == "tensor":
        integers, scale = per_tensor(weight, weight.abs().max() if absmax is None else absmax)
    else:
        integers, scale = per_row(weight)
    check_finite(scale)
    return integers, scale


def check_finite(largest: Tensor) -> None:
    """Raise ValueError if weights of these largest absolute values, or scales made of them, hold NaN or Inf.

    A maximum keeps NaN and Inf. Checking every weight would take longer than quantizing it.
    """
    if not bool(torch.isfinite(largest).all()):
        raise ValueError("the weights hold NaN or Inf")


def quantize_layer(weight: Tensor, plan: QuantizationPlan, *, name: str) -> dict[str, Tensor]:
    """Return the host's keys of one quantized Linear (without its name): weight, weight_scale, comfy_quant.

    Raises:
        ValueError: NaN or Inf among the weights; the message says where.
    """
    try:
        integers, scale = quantize_rows(weight, plan)
    except ValueError as error:
        raise ValueError(f"{name}: {error}. The checkpoint is damaged. Download it again.") from error
    return {
        "weight": integers,
        "weight_scale": scale,
        "comfy_quant": encode_config(plan.layer_config(weight.shape[1])),
    }


def dequantize(layer: Mapping[str, Tensor]) -> Tensor:
    """Return the fp32 weight (out, in) that a quantized layer's keys stand for."""
    config = decode_config(layer["comfy_quant"])
    scale = layer["weight_scale"].float()
    if config["format"] == INT4_FORMAT:
        values = _unpack_int4(layer["weight"]).float() * scale[:, None]
        return rotate(values, config["convrot_groupsize"])
    values = layer["weight"].float() * scale
    return rotate(values, config["convrot_groupsize"]) if config.get("convrot") else values


def encode_config(config: dict) -> Tensor:
    """Return a layer's configuration as the uint8 tensor the host stores it in."""
    return torch.tensor(list(json.dumps(config).encode()), dtype=torch.uint8)


def decode_config(stored: Tensor) -> dict:
    """Read a ``comfy_quant`` tensor."""
    return json.loads(bytes(stored.tolist()))


@cache
def hadamard(size: int) -> Tensor:
    """Return the regular Hadamard matrix of a power-of-four size, orthonormal and symmetric.

    Source: comfy-kitchen ``tensor/int8_utils.py`` (ConvRot).
    """
    four = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]])
    matrix = four
    while len(matrix) < size:
        matrix = torch.kron(matrix, four)
    assert len(matrix) == size, size
    return matrix / size**0.5


def rotate(weight: Tensor, group: int) -> Tensor:
    """Rotate each group of input columns; outliers spread out, and doing it twice gives the weight back."""
    rotation = hadamard(group).to(weight.device)
    return (weight.unflatten(1, (-1, group)) @ rotation).flatten(1)


def _quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize rows to -7..7 with the clip of least squared error, two values a byte."""
    largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-10) / 7
    best_error = torch.full_like(largest, torch.inf)
    best_scale = largest
    for clip in INT4_CLIPS:
        scale = largest * clip
        rounded = (weight / scale).round_().clamp_(-7, 7)
        error = (rounded * scale - weight).square_().sum(dim=1, keepdim=True)
        best_scale = torch.where(error < best_error, scale, best_scale)
        best_error = torch.minimum(error, best_error)
    integers = (weight / best_scale).round_().clamp_(-7, 7).to(torch.int8)
    return _pack_int4(integers), best_scale[:, 0]


def _pack_int4(integers: Tensor) -> Tensor:
    """Pack (rows, in) nibbles into (rows, in/2) bytes, even columns low.

    Source: comfy-kitchen ``backends/eager/svdquant.py``.
    """
    return (integers[:, 0::2] & 0x0F) | (integers[:, 1::2] << 4)


def _unpack_int4(packed: Tensor) -> Tensor:
    low, high = (packed << 4) >> 4, packed >> 4
    return torch.stack((low, high), dim=-1).flatten(-2)
