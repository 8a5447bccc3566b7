"""Recognize a diffusion checkpoint by its keys and shapes, never by its file name, and say why one is refused."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .diffusers_config import HEAD_SIZE, count_blocks
from .keys import PREFIXES, expected_shapes, host_key
from .shards import PART
from .weights_file import Header, TensorInfo

T2V_CHANNELS, SKYREELS_CHANNELS, TI2V_CHANNELS = 16, 32, 33

#: Keys that mark the HunyuanVideo layout; what a checkpoint puts before them is its prefix.
ANCHORS = (
    "img_in.proj.weight",
    "txt_in.input_embedder.weight",
    "txt_in.individual_token_refiner.blocks.0.norm1.weight",
)

#: What quantized files keep beside a module's weight.
QUANT_SUFFIXES = (
    ".weight_scale", ".weight_scale_2", ".input_scale", ".scale_weight", ".scale_input", ".comfy_quant",
)  # fmt: skip
SCALED_FP8 = "scaled_fp8"

#: Other models that checkpoints carry beside the DiT.
NEIGHBORS = ("vae.", "first_stage_model.", "text_encoders.", "cond_stage_model.")

#: Keys of other layouts that have the same token refiner.
RELATIVES = {
    "vision_in.": "HunyuanVideo 1.5",
    "cond_type_embedding.": "HunyuanVideo 1.5",
    "byt5_in.": "HunyuanImage or HunyuanVideo 1.5",
    "time_r_in.": "a MeanFlow HunyuanImage",
}

LORA_MARKS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.")

#: Keys of other models and files; the first match wins.
OTHER_KINDS = (
    (LORA_MARKS, "a LoRA (for LoraLoaderModelOnly, after this node)"),
    (("context_embedder.token_refiner.",), "HunyuanVideo in diffusers' names. Use the ComfyUI single-file version"),
    (("blocks.0.cross_attn.q.", "head.modulation"), "a Wan model"),
    (("double_blocks.0.img_attn.",), "a Flux model"),
    (("joint_blocks.0.",), "a Stable Diffusion 3 model"),
    (("input_blocks.0.0.",), "a Stable Diffusion or SDXL model"),
    (("transformer_blocks.0.scale_shift_table",), "an LTX-Video or PixArt model"),
    (("transformer_blocks.0.img_mod.",), "a Qwen-Image model"),
    (("decoder.conv_in.", "decoder.mid_block.", "decoder.1.weight"), "a VAE"),
    (("self_attn.q_proj.", "text_model.encoder."), "a text encoder"),
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A DiT of the HunyuanVideo layout as its header shows it."""

    in_channels: int
    hidden_size: int
    depth: int
    depth_single: int
    text_width: int
    pooled_width: int
    guidance: bool
    weight_type: str
    num_parameters: int
    prefix: str
    #: The file's keys and the host's names for them; keys of other models in the file are left out.
    renames: Mapping[str, str]

    def describe(self) -> str:
        """Say in one line what the checkpoint is and which conditioning it needs."""
        unit, name = (1e9, "B") if self.num_parameters >= 5e8 else (1e6, "M")
        size = f"{self.num_parameters / unit:.1f} {name}"
        layout = (
            f"HunyuanVideo layout, {size} parameters, {self.weight_type}, {self.depth}+{self.depth_single} blocks,"
            f" {self.in_channels} input channels."
        )
        guidance = (
            " It embeds the guidance strength: set guidance on the conditioning (6 is usual for HunyuanVideo)."
            if self.guidance
            else " No guidance embedding: guidance on the conditioning has no effect, cfg 1 is usual."
        )
        return layout + " " + self._image_line() + guidance

    def _image_line(self) -> str:
        if self.in_channels == T2V_CHANNELS:
            return (
                "Text to video, expanded to 33 channels: it ignores the start image until it is trained, or given a"
                " LoRA that uses it."
            )
        if self.in_channels == SKYREELS_CHANNELS:
            return (
                "Image to video without a mask (SkyReels): needs an image latent; only known frames, no mask."
            )
        return "Image to video: needs the image latent and mask of VLM Image Encode."


def identify(header: Header) -> Checkpoint:
    """Recognize a checkpoint from its header.

    Raises:
        ValueError: another architecture, or a key that is missing, doubled, unknown or of a wrong shape.
    """
    name, tensors = header.path.name, header.tensors
    if (part := PART.match(name)) and int(part["count"]) > 1:
        raise ValueError(
            f"{name} is part {int(part['number'])} of {int(part['count'])} of a model. Join the parts to one"
            " safetensors file first."
        )
    prefix = _find_prefix(tensors, name)
    inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    _refuse_relatives(inside, name)
    renames = _rename(inside, prefix, name)
    weights = {renames[prefix + k]: v for k, v in inside.items() if prefix + k in renames}
    sizes = _sizes(weights, name)
    _check_shapes(weights, expected_shapes(**sizes), {v: k for k, v in renames.items()}, name)
    channels = sizes["in_channels"]
    if channels not in (T2V_CHANNELS, SKYREELS_CHANNELS, TI2V_CHANNELS):
        raise ValueError(
            f"{name} has {channels} input channels ({prefix}img_in.proj.weight); 16 (text to video), 32 (SkyReels) or"
            f" 33 (image to video) are expected."
        )
    sizes.pop("patch")
    return Checkpoint(
        **sizes,
        weight_type=_weight_type(inside),
        num_parameters=sum(
            math.prod(v.shape) for k, v in weights.items() if k.endswith((".weight", ".bias"))
        ),
        prefix=prefix,
        renames=renames,
    )


def _find_prefix(tensors: Mapping[str, TensorInfo], name: str) -> str:
    prefixes = {k.removesuffix(anchor) for k in tensors for anchor in ANCHORS if k.endswith(anchor)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    if not prefixes:
        raise ValueError(_describe_other_file(tensors, name))
    if len(prefixes) == 1:
        return prefixes.pop()
    for known in ("", *PREFIXES):
        if known in prefixes:
            return known
    raise ValueError(
        f"{name} holds several DiTs, under {', '.join(sorted(prefixes))}. Save the generator alone."
    )


def find_other_kind(tensors: Iterable[str]) -> str | None:
    """Return which other model or file, not a HunyuanVideo, has keys like these; None if it is unknown."""
    return next((kind for marks, kind in OTHER_KINDS if any(m in k for k in tensors for m in marks)), None)


def is_lora(tensors: Iterable[str]) -> bool:
    """Say whether these are the keys of a LoRA."""
    return any(mark in key for key in tensors for mark in LORA_MARKS)


def _describe_other_file(tensors: Mapping[str, TensorInfo], name: str) -> str:
    if (kind := find_other_kind(tensors)) is not None:
        return (
            f"{name} is {kind}; a DiT of the HunyuanVideo layout (16, 32 or 33 input channels) is expected."
        )
    example = next(iter(sorted(tensors)), "no tensor at all")
    return (
        f"{name} is no DiT of the HunyuanVideo layout: it has no {ANCHORS[0]} and no token refiner"
        f" (it holds {len(tensors)} tensors, the first is {example})."
    )


def _refuse_relatives(inside: Mapping[str, TensorInfo], name: str) -> None:
    patch = inside.get("img_in.proj.weight")
    kind = next((kind for mark, kind in RELATIVES.items() if any(k.startswith(mark) for k in inside)), None)
    if kind is None and patch is not None and len(patch.shape) == 4:
        kind = "a HunyuanImage model"
    if kind is not None:
        raise ValueError(
            f"{name} is {kind}, which has other latents and encoders. Magic141 runs HunyuanVideo 1.0 layouts: load it"
            f" with Load Diffusion Model and its own nodes, or choose a HunyuanVideo checkpoint."
        )


def _rename(inside: Mapping[str, TensorInfo], prefix: str, name: str) -> dict[str, str]:
    renames: dict[str, str] = {}
    origin: dict[str, str] = {}
    for key in inside:
        if key == SCALED_FP8 or (not prefix and key.startswith(NEIGHBORS)):
            continue
        host = host_key(key)
        if host is None:
            raise ValueError(
                f"{name} holds a key of another model: {prefix}{key} has no place in a HunyuanVideo-layout DiT."
            )
        if host in origin:
            raise ValueError(
                f"{name} holds one weight twice: {prefix}{key} and {origin[host]} are both {host}."
            )
        renames[prefix + key], origin[host] = host, prefix + key
    return renames


def _sizes(weights: Mapping[str, TensorInfo], name: str) -> dict:
    def shape(key: str, dimensions: int) -> tuple[int, ...]:
        if key not in weights:
            raise ValueError(f"{name} is incomplete: {key} is missing.")
        if len(weights[key].shape) != dimensions:
            raise ValueError(
                f"{name}: {key} has shape {weights[key].shape}; {dimensions} dimensions are expected."
            )
        return weights[key].shape

    hidden_size, in_channels, _, patch, _ = shape("img_in.proj.weight", 5)
    if hidden_size % HEAD_SIZE:
        raise ValueError(
            f"{name} has hidden size {hidden_size}; a multiple of the head size {HEAD_SIZE} is expected."
        )
    return {
        "hidden_size": hidden_size,
        "in_channels": in_channels,
        "depth": count_blocks(weights, "double_blocks"),
        "depth_single": count_blocks(weights, "single_blocks"),
        "text_width": shape("txt_in.input_embedder.weight", 2)[1],
        "pooled_width": shape("vector_in.in_layer.weight", 2)[1],
        "guidance": any(k.startswith("guidance_in.") for k in weights),
        "patch": patch,
    }


def _check_shapes(
    weights: Mapping[str, TensorInfo],
    expected: Mapping[str, tuple[int, ...]],
    origin: Mapping[str, str],
    name: str,
) -> None:
    missing = [k for k in expected if k not in weights]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{name} is incomplete: {missing[0]}{more} missing. Download or export it again.")
    for key, info in weights.items():
        if key.endswith(QUANT_SUFFIXES):
            continue
        if key not in expected:
            raise ValueError(
                f"{name}: {origin[key]} has no place in a model of this size ({key} is unexpected)."
            )
        # 4-bit formats keep two weights a byte
        packed = info.dtype == "uint8" or (
            info.dtype == "int8" and (*info.shape[:-1], 2 * info.shape[-1]) == expected[key]
        )
        if info.shape != expected[key] and not packed:
            raise ValueError(f"{name}: {origin[key]} has shape {info.shape}; {expected[key]} is expected.")


def _weight_type(inside: Mapping[str, TensorInfo]) -> str:
    bytes_by_type = Counter()
    for key, info in inside.items():
        if key.endswith(".weight"):
            bytes_by_type[info.dtype] += math.prod(info.shape)
    kind = bytes_by_type.most_common(1)[0][0]
    is_scaled = SCALED_FP8 in inside or any(k.endswith((".weight_scale", ".scale_weight")) for k in inside)
    return f"{kind} scaled" if is_scaled else kind
