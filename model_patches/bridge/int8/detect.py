"""Find the Linear layers of a model's repeated blocks in a file, by the host's own detection and classes."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import comfy.model_detection
import comfy.ops
import comfy.supported_models as supported
import comfy.utils
import torch
from torch import Tensor, nn

from ...dit.checkpoint import find_other_kind, is_lora
from ...dit.weights_file import Header, TensorInfo
from ...int8.choice import plan_file
from ...int8.quantize import QuantizationPlan
from ...int8.source import (
    Piece,
    SourceLayout,
    all_rows,
    hunyuan_layout,
    is_companion,
    refuse_quantized,
)
from .blocks import block_weights, empty, linear_weights, stand_ins
from .detect_encoder import text_encoder_layout

#: The families that have a layout of their own in this pack, with more names and better messages.
HUNYUAN = (supported.HunyuanVideo, supported.HunyuanVideoI2V, supported.HunyuanVideoSkyreelsI2V)
SCALE_KEYS = (".weight_scale", ".comfy_quant")
ROW_BITS = 32


def find_layout(header: Header, plan: QuantizationPlan) -> SourceLayout:
    """Have the host say what model a file holds, and find its layers, without reading weights.

    Raises:
        ValueError: no diffusion model or text encoder that this version of ComfyUI detects.
    """
    refuse_quantized(header, allow_plain_fp8=True)
    return keep_recognizable(header, _host_layout(header), plan)


def _host_layout(header: Header) -> SourceLayout:
    if is_lora(header.tensors):
        raise ValueError(f"{header.path.name} is a LoRA. Choose the diffusion model that it is for.")
    pieces = _dit_pieces(header)
    config = _detect(header, pieces)
    if config is None and (converted := _from_diffusers(header, pieces)):
        pieces, config = converted, _detect(header, converted)
    if config is None and (encoder := text_encoder_layout(header)):
        return encoder
    refuse_quantized(header)  # text encoders come in plain fp8, diffusion models with their scales
    if config is None or type(config) in HUNYUAN:
        return _hunyuan_or_unknown(header, config)
    weights = stand_ins(header, pieces)
    try:
        names = _module_names(config, weights)
        dit = _build(config, weights)
    except (KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{header.path.name} looks like {type(config).__name__}, but ComfyUI cannot build that model from it "
            f"({error}). It may be incomplete. Download it again."
        ) from error
    linears, blocks = linear_weights(dit), block_weights(dit)
    return SourceLayout(
        type(config).__name__,
        pieces,
        frozenset(key for key, name in names.items() if name in blocks),
        frozenset(key for key, name in names.items() if name in linears),
        names,
    )


def keep_recognizable(header: Header, layout: SourceLayout, plan: QuantizationPlan) -> SourceLayout:
    """Leave out the weights whose quantized shape would make the host detect another model.

    8-bit integers keep the shape. Two 4-bit ones share a byte, which halves a width.
    """
    if plan.mode != "int4":
        return layout
    weights, tensors = layout.weights(header), plan_file(header, layout, plan).tensors
    before = _unet_config(header, weights)
    if _unet_config(header, tensors) == before:
        return layout
    decisive = {
        k
        for k in layout.linears
        if k in tensors and _unet_config(header, weights | {k: tensors[k]}) != before
    }
    return replace(layout, blocks=layout.blocks - decisive, linears=layout.linears - decisive)


def _dit_pieces(header: Header) -> dict[str, tuple[Piece, ...]]:
    """Return the diffusion model's keys without the file's prefix, and the rows they are made of."""
    keys = [key for key in header.tensors if not is_companion(key)]
    prefix = comfy.model_detection.unet_prefix_from_state_dict(dict.fromkeys(keys))
    inside = [key for key in keys if key.startswith(prefix)] or keys
    return {key.removeprefix(prefix): all_rows(key, header.tensors[key].shape) for key in inside}


def _unet_config(header: Header, tensors: Mapping[str, TensorInfo]) -> dict | None:
    """Return the configuration that the host infers from the shapes."""
    return comfy.model_detection.detect_unet_config(empty(tensors), "", metadata=dict(header.metadata))


def _detect(header: Header, pieces: Mapping[str, tuple[Piece, ...]]):
    """Return the host's model configuration, None where it detects nothing."""
    try:
        return comfy.model_detection.model_config_from_unet(
            stand_ins(header, pieces), "", metadata=dict(header.metadata)
        )
    except (KeyError, IndexError, AttributeError, ValueError, ZeroDivisionError, TypeError):
        return None  # a key or dimension is missing on which its detection relies


def _from_diffusers(
    header: Header, pieces: Mapping[str, tuple[Piece, ...]]
) -> dict[str, tuple[Piece, ...]] | None:
    """Return the pieces in the host's names where it can convert diffusers' names, else None.

    The host's converter is run on small tensors whose values name their own rows.
    """
    keys = list(pieces)
    traced = {}
    for number, key in enumerate(keys):
        shape = header.tensors[pieces[key][0].key].shape
        rows = torch.arange(shape[0] if shape else 1) + (number << ROW_BITS)
        traced[key] = rows.reshape(-1, *(1 for _ in shape[1:])) if shape else rows[0]
    converted = comfy.model_detection.convert_diffusers_mmdit(traced, "")
    if converted is None:
        return None
    return {
        new: tuple(_runs(rows.reshape(-1), [pieces[key][0].key for key in keys]))
        for new, rows in converted.items()
    }


def _runs(rows: Tensor, keys: list[str]) -> Iterator[Piece]:
    """Yield the unbroken runs of rows of one tensor."""
    starts = [0, *(torch.nonzero(rows.diff() != 1).reshape(-1) + 1).tolist(), len(rows)]
    for start, end in itertools.pairwise(starts):
        first = int(rows[start])
        row = first & ((1 << ROW_BITS) - 1)
        yield Piece(keys[first >> ROW_BITS], row, row + end - start)


def _build(config, weights: dict[str, Tensor]) -> nn.Module:
    """Build the host's module without memory for its weights."""
    config.set_inference_dtype(torch.bfloat16, None)
    config.custom_operations = comfy.ops.disable_weight_init
    return config.get_model(dict(weights), "", device=torch.device("meta")).diffusion_model


def _module_names(config, weights: dict[str, Tensor]) -> dict[str, str]:
    """Return the names in the host's module of the file's weights that may be quantized.

    Left out are weights that the host cuts or reorders on loading, and those whose scales it would rename otherwise.
    """
    loaded = config.process_unet_state_dict(dict(weights))
    loaded_names = {id(tensor): name for name, tensor in loaded.items()}
    names = {key: loaded_names[id(tensor)] for key, tensor in weights.items() if id(tensor) in loaded_names}
    matrices = [k for k in names if k.endswith(".weight") and weights[k].ndim == 2]
    scales = {k.removesuffix(".weight") + end: torch.zeros(()) for k in matrices for end in SCALE_KEYS}
    renamed = config.process_unet_state_dict(weights | scales)
    scale_names = {id(tensor): name for name, tensor in renamed.items()}

    def stays_beside(key: str, end: str) -> bool:
        wanted = names[key].removesuffix(".weight") + end
        return scale_names.get(id(scales[key.removesuffix(".weight") + end])) == wanted

    lost = {key for key in matrices if not all(stays_beside(key, end) for end in SCALE_KEYS)}
    return {key: name for key, name in names.items() if key not in lost}


def _hunyuan_or_unknown(header: Header, config) -> SourceLayout:
    """Return the layout of a HunyuanVideo, which this pack knows itself, or refuse what the host does not know."""
    if config is not None or any(".individual_token_refiner." in key for key in header.tensors):
        return hunyuan_layout(header)
    kind = find_other_kind(header.tensors) or "not a diffusion model that this version of ComfyUI detects"
    example = next(iter(sorted(header.tensors)), "no tensor at all")
    raise ValueError(
        f"{header.path.name} is {kind}. Choose a diffusion model that ComfyUI detects. (This file "
        f"holds {len(header.tensors)} tensors; the first is {example}.)"
    )
