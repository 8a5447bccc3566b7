"""One literal table of the HunyuanVideo-layout DiT: ComfyUI's names, the authors' names, diffusers' names.

Rows of ``TABLE`` lie under the prefixes of the host (shared by the authors) and of diffusers. Columns: the
host's module name; the authors' (original Hunyuan) name, "" where it is the same; the diffusers name, or
several where the host fuses what diffusers keeps apart; the weight's shape. ``{i}`` is a block's number.
In shapes: h hidden size, t text width, p pooled text width, c input channels, o output channels; "3h h" is
(3*hidden, hidden). One-dimensional "128" weights (q/k RMSNorm) have no bias, everything else has one.

Everything else in this file is code that reads the table, forwards or backwards.
Source: ComfyUI ``supported_models.HunyuanVideo.process_unet_state_dict``; diffusers
``single_file_utils.convert_hunyuan_video_transformer_to_diffusers``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

TABLE: dict[tuple[str, str], tuple[tuple[str, str, str, str], ...]] = {
    ("", ""): (
        ("img_in.proj", "", "x_embedder.proj", "h c 1 s s"),
        ("time_in.in_layer", "time_in.mlp.0", "time_text_embed.timestep_embedder.linear_1", "h 256"),
        ("time_in.out_layer", "time_in.mlp.2", "time_text_embed.timestep_embedder.linear_2", "h h"),
        ("vector_in.in_layer", "", "time_text_embed.text_embedder.linear_1", "h p"),
        ("vector_in.out_layer", "", "time_text_embed.text_embedder.linear_2", "h h"),
        (
            "guidance_in.in_layer",
            "text_guidance_in.mlp.0",
            "time_text_embed.guidance_embedder.linear_1",
            "h 256",
        ),
        (
            "guidance_in.out_layer",
            "text_guidance_in.mlp.2",
            "time_text_embed.guidance_embedder.linear_2",
            "h h",
        ),
        ("final_layer.linear", "", "proj_out", "o h"),
        ("final_layer.adaLN_modulation.1", "", "norm_out.linear", "2h h"),
    ),
    ("txt_in.", "context_embedder."): (
        ("input_embedder", "", "proj_in", "h t"),
        ("t_embedder.in_layer", "t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1", "h 256"),
        ("t_embedder.out_layer", "t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2", "h h"),
        ("c_embedder.in_layer", "c_embedder.linear_1", "time_text_embed.text_embedder.linear_1", "h t"),
        ("c_embedder.out_layer", "c_embedder.linear_2", "time_text_embed.text_embedder.linear_2", "h h"),
    ),
    ("txt_in.individual_token_refiner.blocks.{i}.", "context_embedder.token_refiner.refiner_blocks.{i}."): (
        ("norm1", "", "norm1", "h"),
        ("self_attn.qkv", "self_attn_qkv", "attn.to_q attn.to_k attn.to_v", "3h h"),
        ("self_attn.proj", "self_attn_proj", "attn.to_out.0", "h h"),
        ("norm2", "", "norm2", "h"),
        ("mlp.0", "mlp.fc1", "ff.net.0.proj", "4h h"),
        ("mlp.2", "mlp.fc2", "ff.net.2", "h 4h"),
        ("adaLN_modulation.1", "", "norm_out.linear", "2h h"),
    ),
    ("double_blocks.{i}.", "transformer_blocks.{i}."): (
        ("img_mod.lin", "img_mod.linear", "norm1.linear", "6h h"),
        ("img_attn.qkv", "img_attn_qkv", "attn.to_q attn.to_k attn.to_v", "3h h"),
        ("img_attn.norm.query_norm", "img_attn_q_norm", "attn.norm_q", "128"),
        ("img_attn.norm.key_norm", "img_attn_k_norm", "attn.norm_k", "128"),
        ("img_attn.proj", "img_attn_proj", "attn.to_out.0", "h h"),
        ("img_mlp.0", "img_mlp.fc1", "ff.net.0.proj", "4h h"),
        ("img_mlp.2", "img_mlp.fc2", "ff.net.2", "h 4h"),
        ("txt_mod.lin", "txt_mod.linear", "norm1_context.linear", "6h h"),
        ("txt_attn.qkv", "txt_attn_qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3h h"),
        ("txt_attn.norm.query_norm", "txt_attn_q_norm", "attn.norm_added_q", "128"),
        ("txt_attn.norm.key_norm", "txt_attn_k_norm", "attn.norm_added_k", "128"),
        ("txt_attn.proj", "txt_attn_proj", "attn.to_add_out", "h h"),
        ("txt_mlp.0", "txt_mlp.fc1", "ff_context.net.0.proj", "4h h"),
        ("txt_mlp.2", "txt_mlp.fc2", "ff_context.net.2", "h 4h"),
    ),
    ("single_blocks.{i}.", "single_transformer_blocks.{i}."): (
        ("linear1", "", "attn.to_q attn.to_k attn.to_v proj_mlp", "7h h"),
        ("linear2", "", "proj_out", "h 5h"),
        ("norm.query_norm", "q_norm", "attn.norm_q", "128"),
        ("norm.key_norm", "k_norm", "attn.norm_k", "128"),
        ("modulation.lin", "modulation.linear", "norm.linear", "3h h"),
    ),
}

#: A fused weight's rows by diffusers part, in units of the hidden size; all 1 where nothing is said.
FUSED_SHARES = {"single_blocks.{i}.linear1": (1, 1, 1, 4)}

#: The host keeps (shift, scale) where diffusers keeps (scale, shift).
HALVES_SWAPPED = frozenset({"final_layer.adaLN_modulation.1"})

#: Whole branches a checkpoint may leave out.
OPTIONAL_PREFIX = "guidance_in."

#: What checkpoints put before the DiT's own names, longest first.
PREFIXES = (
    "hydit_unimodel.guidance_model.feedforward_model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "module.",
    "model.",
)

_BLOCK = re.compile(
    r"^(double_blocks|single_blocks|txt_in\.individual_token_refiner\.blocks|transformer_blocks"
    r"|single_transformer_blocks|context_embedder\.token_refiner\.refiner_blocks)\.(\d+)\."
)


class Key(NamedTuple):
    """A key taken apart: ``module`` with ``{i}`` for the block number ``index``, and ``suffix``."""

    module: str
    index: str  # pyright: ignore[reportIncompatibleMethodOverride]
    suffix: str

    def renamed(self, module: str) -> str:
        return f"{module.replace('{i}', self.index)}.{self.suffix}"


def split_key(key: str) -> Key:
    """Take a key apart: ``double_blocks.3.img_mlp.0.weight`` -> (module with {i}, "3", "weight")."""
    module, _, suffix = key.rpartition(".")
    block = _BLOCK.match(f"{module}.")
    if block is None:
        return Key(module, "", suffix)
    return Key(f"{block[1]}.{{i}}.{module[block.end() :]}", block[2], suffix)


def _rows() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yield the table's rows with full names: host, authors, diffusers parts, shape."""
    for (host_prefix, diffusers_prefix), rows in TABLE.items():
        for host, authors, diffusers, shape in rows:
            parts = tuple(diffusers_prefix + part for part in diffusers.split())
            yield host_prefix + host, host_prefix + (authors or host), parts, shape


HOST_TO_AUTHORS = {host: authors for host, authors, _, _ in _rows()}
HOST_TO_PARTS = {host: parts for host, _, parts, _ in _rows()}
PART_TO_HOST = {part: host for host, parts in HOST_TO_PARTS.items() for part in parts}
#: Every known module name to the host's: the host's, the authors', and ``guidance_in.mlp`` of early files.
ANY_TO_HOST = (
    {host: host for host in HOST_TO_AUTHORS}
    | {authors: host for host, authors in HOST_TO_AUTHORS.items()}
    | {authors.removeprefix("text_"): host for host, authors in HOST_TO_AUTHORS.items()}
)


def host_key(key: str) -> str | None:
    """Return the host's name of a key in the host's or the authors' names, or None for any other key."""
    parts = split_key(key)
    module = ANY_TO_HOST.get(parts.module)
    if module is None:
        return None
    if parts.suffix == "scale" and module.endswith(("query_norm", "key_norm")):
        parts = parts._replace(suffix="weight")
    return parts.renamed(module)


def authors_to_host(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict in the authors' names, or the host's, to the host's names. Tensors are shared.

    Raises:
        ValueError: a key belongs to neither.
    """
    return {_required(host_key(key), key): tensor for key, tensor in state_dict.items()}


def host_to_authors(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a host state dict to the authors' names. Tensors are shared."""
    renamed = {}
    for key, tensor in state_dict.items():
        parts = split_key(key)
        renamed[parts.renamed(_required(HOST_TO_AUTHORS.get(parts.module), key))] = tensor
    return renamed


def host_to_diffusers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a host state dict into one for ``diffusers.HunyuanVideoTransformer3DModel``. Splits are views.

    Args:
        state_dict: the host's names, plain (not quantized) weights.
    Raises:
        ValueError: a key is not in the table.
    """
    converted = {}
    for key, tensor in state_dict.items():
        parts = split_key(key)
        names = _required(HOST_TO_PARTS.get(parts.module), key)
        for name, part in zip(names, _split(parts.module, tensor), strict=True):
            converted[parts.renamed(name)] = part
    return converted


def diffusers_to_host(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a diffusers state dict into the host's, fusing what the host fuses.

    Raises:
        ValueError: a key is not in the table, or part of a fused weight is missing.
    """
    converted = {}
    for key in state_dict:
        parts = split_key(key)
        module = _required(PART_TO_HOST.get(parts.module), key)
        if (name := parts.renamed(module)) not in converted:
            sources = [parts.renamed(part) for part in HOST_TO_PARTS[module]]
            if missing := [source for source in sources if source not in state_dict]:
                raise ValueError(f"{missing[0]} is missing: {name} is made of {', '.join(sources)}.")
            converted[name] = _merge(module, [state_dict[source] for source in sources])
    return converted


def expected_shapes(
    *,
    hidden_size: int,
    depth: int,
    depth_single: int,
    in_channels: int = 33,
    out_channels: int = 16,
    text_width: int = 4096,
    pooled_width: int = 768,
    guidance: bool = False,
    refiner_depth: int = 2,
    patch: int = 2,
) -> dict[str, tuple[int, ...]]:
    """Return every host key of a DiT of these sizes with its shape; a patch is (1, ``patch``, ``patch``) latents."""
    sizes = {
        "h": hidden_size,
        "t": text_width,
        "p": pooled_width,
        "c": in_channels,
        "s": patch,
        "o": patch**2 * out_channels,
        "": 1,
    }
    depths = {"double_blocks": depth, "single_blocks": depth_single, "txt_in": refiner_depth}
    shapes = {}
    for host, _, _, symbols in _rows():
        if host.startswith(OPTIONAL_PREFIX) and not guidance:
            continue
        shape = tuple(_dimensions(symbols, sizes))
        for i in range(depths[host.split(".")[0]] if "{i}" in host else 1):
            shapes[f"{host.replace('{i}', str(i))}.weight"] = shape
            if symbols != "128":
                shapes[f"{host.replace('{i}', str(i))}.bias"] = shape[:1]
    return shapes


def _dimensions(symbols: str, sizes: Mapping[str, int]) -> Iterator[int]:
    for symbol in symbols.split():
        count = symbol.rstrip("htpcso")
        yield int(count or 1) * sizes[symbol[len(count) :]]


def _split(module: str, tensor: Tensor) -> Iterable[Tensor]:
    if module in HALVES_SWAPPED:
        return (torch.cat(tensor.chunk(2)[::-1]),)
    shares = FUSED_SHARES.get(module, (1,) * len(HOST_TO_PARTS[module]))
    unit = tensor.shape[0] // sum(shares)
    return tensor.split([share * unit for share in shares]) if len(shares) > 1 else (tensor,)


def _merge(module: str, parts: list[Tensor]) -> Tensor:
    if module in HALVES_SWAPPED:
        return torch.cat(parts[0].chunk(2)[::-1])
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _required(name: T | None, key: str) -> T:
    if name is None:
        raise ValueError(f"{key} is no key of a HunyuanVideo-layout DiT.")
    return name
