"""Files of tiny models of other families as artists have them: whole, in parts, fp8_scaled, in diffusers' names."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from magic141.model_patches.bridge.int8.detect import find_layout
from magic141.model_patches.dit.shards import read_model_header
from magic141.model_patches.int8.file import FileReport, quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan
from safetensors.torch import save_file
from torch import Tensor

FP8_MAX = 448


def write_weights(
    path: Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a state dict as one file."""
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path, dict(metadata or {}))
    return path


def write_parts(folder: Path, weights: Mapping[str, Tensor], *, count: int = 3) -> list[Path]:
    """Write a state dict in several files with an index, as diffusers does."""
    keys, base = sorted(weights), "diffusion_pytorch_model"
    names = [f"{base}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    for number, name in enumerate(names):
        write_weights(folder / name, {key: weights[key] for key in keys[number::count]})
    index = {"weight_map": {key: names[number % count] for number, key in enumerate(keys)}}
    (folder / f"{base}.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return [folder / name for name in names]


def fp8_scaled(weights: Mapping[str, Tensor], layers: frozenset[str]) -> dict[str, Tensor]:
    """Return the state dict with these weights in fp8 with a scale, which the host multiplies in full precision."""
    scaled = {key: tensor for key, tensor in weights.items() if key not in layers}
    for key in layers:
        scale = weights[key].float().abs().max() / FP8_MAX
        scaled[key] = (weights[key].float() / scale).to(torch.float8_e4m3fn)
        scaled[f"{key.removesuffix('.weight')}.scale_weight"] = scale
    return scaled | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}


def flux_in_diffusers_names(weights: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Return a Flux state dict in diffusers' names, its fused weights cut into what diffusers keeps apart."""
    import comfy.utils

    sizes = {"depth": config["depth"], "depth_single_blocks": config["depth_single_blocks"]}
    table = comfy.utils.flux_to_diffusers(sizes | {"hidden_size": config["hidden_size"]})
    found = {}
    for name, place in table.items():
        key, rows, change = (place, None, None) if isinstance(place, str) else (*place, None)[:3]
        if key in weights:
            piece = weights[key] if rows is None else weights[key].narrow(*rows)
            found[name] = (change(piece) if change else piece).clone()
    return found


def quantize_found(source: Path, target: Path, plan: QuantizationPlan) -> FileReport:
    """Quantize a file of any family that the host detects, as the node does."""
    holds = find_layout(read_model_header(source), plan)
    return quantize_file(source, target, plan, contents=holds, overwrite=True)


def relative_error(result: Tensor, reference: Tensor) -> float:
    """Return ||result - reference|| / ||reference||."""
    return float((result - reference).norm() / reference.norm())
