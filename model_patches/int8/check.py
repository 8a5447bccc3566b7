"""Refuse quantized files whose integers, scales or settings do not belong together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..store.cancel import until_canceled
from .quantize import CONFIG, INT4_FORMAT, INT8_FORMAT, ROTATION_GROUPS, decode_config

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def check_layers(state_dict: Mapping[str, Tensor], file_name: str) -> None:
    """Check every quantized layer of a state dict in the host's keys.

    Raises:
        ValueError: names the key, what it holds and what is expected.
    """
    for key, tensor in until_canceled(state_dict.items()):
        try:
            _check(key, tensor, state_dict)
        except ValueError as error:
            raise ValueError(f"{file_name} is damaged: {error}. Quantize the original again.") from None


def _check(key: str, tensor: Tensor, state_dict: Mapping[str, Tensor]) -> None:
    if tensor.is_complex():
        raise ValueError(f"{key} is {_type_name(tensor)}; weights are real numbers")
    if key.endswith(".weight") and tensor.dtype == torch.int8:
        _check_layer(key.removesuffix(".weight"), tensor, state_dict)
    elif key.endswith(".weight") and not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise ValueError(f"{key} is {_type_name(tensor)}; floating point, or int8 with scales, is expected")
    is_scale = key.endswith((".weight_scale", ".scale_weight", ".input_scale")) and tensor.dtype in FLOATS
    if is_scale and (wrong := tensor[~(torch.isfinite(tensor) & (tensor > 0))]).numel():
        raise ValueError(f"{key} holds {float(wrong[0])}; scales are finite and above zero")


def _check_layer(name: str, weight: Tensor, state_dict: Mapping[str, Tensor]) -> None:
    for suffix in (".weight_scale", CONFIG):
        if name + suffix not in state_dict:
            raise ValueError(f"{name}.weight is int8, but {name}{suffix} is missing")
    scale, config = state_dict[f"{name}.weight_scale"], _config(name, state_dict[name + CONFIG])
    if config.get("format") not in (INT8_FORMAT, INT4_FORMAT):
        raise ValueError(f"{name}.weight is int8, but its format is {config.get('format')!r}")
    if scale.dtype not in FLOATS:
        raise ValueError(f"{name}.weight_scale is {_type_name(scale)}; float32 is expected")
    rows = len(weight)
    if tuple(scale.shape) not in ((), (1,), (1, 1), (rows,), (rows, 1)):
        raise ValueError(
            f"{name}.weight_scale has shape {tuple(scale.shape)}; one value, or one for each of {rows} rows, is "
            "expected"
        )
    group = config.get("convrot_groupsize") if config.get("convrot") else None
    if group is not None and (group not in ROTATION_GROUPS or weight.shape[1] % group):
        raise ValueError(
            f"{name} is rotated in groups of {group}, which do not fit {weight.shape[1]} columns"
        )


def _config(name: str, stored: Tensor) -> dict:
    try:
        config = decode_config(stored)
    except (ValueError, TypeError):  # no bytes, or no JSON
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{name}{CONFIG} is not the description of a quantized layer")
    return config


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
