"""Exchange with optimum-quanto: its state-dict keys to the host's and back.

quanto keeps a frozen Linear as ``weight._data`` (int8) and ``weight._scale`` (rows, 1), with ``input_scale`` and
``output_scale`` of 1 while activations are not quantized, and lists the layers in a quantization map.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ..dit.keys import PREFIXES, authors_to_host, diffusers_to_host, host_to_authors, host_to_diffusers
from ..dit.weights_file import Header, describe_tensors
from .quantize import CONFIG, INT8_FORMAT, QuantizationPlan, decode_config, encode_config

DATA, SCALE = ".weight._data", ".weight._scale"
ACTIVATION_SCALES = (".input_scale", ".output_scale")
PACKED = (".weight._shift", ".weight._data._data")
NAMES = ("authors", "diffusers")


def is_quanto(keys: Iterable[str]) -> bool:
    """Say whether these are the keys of a state dict that quanto froze."""
    return any(key.endswith((DATA, *PACKED)) for key in keys)


def from_quanto(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a quanto int8 state dict in diffusers', the authors' or the host's names into the host's own.

    Returns:
        The host's names: int8 ``weight``, fp32 ``weight_scale`` and ``comfy_quant`` (weight-only).
    Raises:
        ValueError: not int8, activations quantized too, or keys that are not of this layout.
    """
    if bad := next((key for key in state_dict if key.endswith(PACKED)), None):
        raise ValueError(
            f"This file is quantized by quanto to fewer than 8 bits ({bad}). Only qint8 can be read."
        )
    converted = {}
    for key, tensor in state_dict.items():
        if key.endswith(DATA):
            if tensor.dtype != torch.int8:
                raise ValueError(f"{key} is {tensor.dtype}. Only quanto's qint8 weights can be read.")
            converted[key.removesuffix("._data")] = tensor
        elif key.endswith(SCALE):
            converted[key.removesuffix(SCALE) + ".weight_scale"] = _row_scales(tensor, state_dict, key)
        elif key.endswith(ACTIVATION_SCALES):
            _refuse_activation_scale(key, tensor)
        else:
            converted[key] = tensor
    return _with_config(_host_names(converted))


def native_header(header: Header) -> Header:
    """Return the header that a quanto file would have in the host's keys; any other header as it is."""
    if not is_quanto(header.tensors):
        return header
    empty = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (dtype, shape) in header.tensors.items()
    }
    return replace(header, tensors=describe_tensors(from_quanto(empty)))


def to_quanto(state_dict: Mapping[str, Tensor], *, names: str) -> tuple[dict[str, Tensor], dict]:
    """Turn a native weight-only int8 state dict into quanto's, with quanto's quantization map.

    Args:
        state_dict: the host's names.
        names: "diffusers", or "authors" for the original code.
    Raises:
        ValueError: the weights are rotated or 4-bit, which quanto cannot hold.
    """
    configs = [decode_config(tensor) for key, tensor in state_dict.items() if key.endswith(CONFIG)]
    if any(config["format"] != INT8_FORMAT or config.get("convrot") for config in configs):
        raise ValueError(
            "quanto holds plain int8 only; this file is rotated (W8A8) or 4-bit. Quantize with the "
            "weight-only int8 mode."
        )
    scaled = {k: _row_scales(v, state_dict, k) for k, v in state_dict.items() if not k.endswith(CONFIG)}
    renamed = host_to_diffusers(scaled) if names == "diffusers" else host_to_authors(scaled)
    layers = [key.removesuffix(".weight_scale") for key in renamed if key.endswith(".weight_scale")]
    for name in layers:
        renamed[name + DATA] = renamed.pop(f"{name}.weight")
        renamed[name + SCALE] = renamed.pop(f"{name}.weight_scale")
        renamed |= {name + suffix: torch.ones(()) for suffix in ACTIVATION_SCALES}
    return renamed, {name: {"weights": "qint8", "activations": "none"} for name in layers}


def _row_scales(scale: Tensor, state_dict: Mapping[str, Tensor], key: str) -> Tensor:
    """Return scales as fp32 (rows, 1), a single one repeated; any other tensor as it is."""
    if not key.endswith((SCALE, ".weight_scale")):
        return scale
    weight = state_dict.get(key.replace("._scale", "._data").replace(".weight_scale", ".weight"))
    if weight is None:
        raise ValueError(f"{key} has no weight beside it. The file is incomplete.")
    if scale.ndim and scale.shape not in ((len(weight), 1), (1, 1)):
        raise ValueError(
            f"{key} has shape {tuple(scale.shape)}; one scale a row ({len(weight)}, 1) is expected."
        )
    return scale.float().reshape(-1, 1).expand(len(weight), 1).contiguous()


def _refuse_activation_scale(key: str, tensor: Tensor) -> None:
    if not tensor.is_meta and bool((tensor.float() != 1).any()):
        raise ValueError(
            f"{key} is not 1: activations are quantized too. Only weight-only files can be read."
        )


def _host_names(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in state_dict)), "")
    unprefixed = {key.removeprefix(prefix): tensor for key, tensor in state_dict.items()}
    is_diffusers = any("transformer_blocks." in key for key in unprefixed)
    return diffusers_to_host(unprefixed) if is_diffusers else authors_to_host(unprefixed)


def _with_config(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    config = encode_config(QuantizationPlan().layer_config(0))
    layers = [key.removesuffix(".weight_scale") for key in state_dict if key.endswith(".weight_scale")]
    return state_dict | {name + CONFIG: config.clone() for name in layers}
