"""Quantize a checkpoint from file to file, a few rows at a time, into the host's keys or quanto's."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..dit.mapping import map_tensors
from ..dit.shards import read_model_header
from ..dit.stream import TensorWriter, refuse_to_overwrite, whole_file, write_tensors
from ..dit.weights_file import Header, describe_tensors, load_torch_zip, read_header
from ..store.cancel import Progress, no_progress
from ..store.files import file_sha256, remove_file
from .check import check_layers
from .choice import num_bytes, plan_file
from .convert import convert_weights
from .quantize import QuantizationPlan
from .quanto import NAMES, from_quanto, is_quanto, to_quanto
from .source import HUNYUAN, SourceLayout, SourceReader, hunyuan_layout, refuse_quantized

#: The header entry that says what a file was made from.
PROVENANCE = "magic141_quantization"
QUANTO_MAP = "quantization_map"
#: Header entries of the source that are false for the new file.
DROPPED_METADATA = (PROVENANCE, QUANTO_MAP, "_quantization_metadata")
LAYOUTS = ("native", *(f"quanto_{names}" for names in NAMES))


@dataclass(frozen=True)
class FileReport:
    """What was written."""

    path: Path
    num_layers: int
    bytes_before: int
    bytes_after: int
    kept: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        share = self.bytes_after / self.bytes_before
        kept = f" Kept as they were: {', '.join(self.kept)}." if self.kept else ""
        return (
            f"{self.path.name}: {self.num_layers} layers quantized, {self.bytes_before / 1e6:,.0f} MB -> "
            f"{self.bytes_after / 1e6:,.0f} MB ({share:.0%}).{kept}"
        )


def quantize_file(
    source: str | Path,
    target: str | Path,
    plan: QuantizationPlan,
    *,
    contents: SourceLayout | None = None,
    layout: str = "native",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> FileReport:
    """Quantize a model into the new file ``target``; a quanto file is only translated.

    Args:
        source: safetensors, in one file or in several of which this is one or the index, or a ``.pth``.
        target: a ``.safetensors`` file.
        contents: what the source holds; if None, a HunyuanVideo in the names of the host, of the authors or, when
            quanto wrote it, of diffusers is expected.
        layout: "native" (ComfyUI opens it), "quanto_diffusers" or "quanto_authors" (HunyuanVideo only).
        progress: called with (bytes done, bytes in all); if it raises, nothing is left behind.
    Raises:
        FileExistsError: the target exists and ``overwrite`` is False.
        ValueError: quantized already, NaN or Inf, another architecture; the message says which.
        OSError: the disk is full.
    """
    target, header = Path(target), read_model_header(source)
    _check_paths(header, target, layout, overwrite=overwrite)
    if only_translates(header, layout):
        return _translate(header, target, layout, overwrite=overwrite)
    if contents is None:
        refuse_quantized(header)
        contents = hunyuan_layout(header)
    if layout != "native" and contents.family != HUNYUAN:
        raise ValueError(
            f"{header.path.name} is a {contents.family}; quanto's keys exist for {HUNYUAN} only. Choose "
            "the layout ComfyUI."
        )
    if layout == "native":
        return _quantize_native(header, contents, target, plan, overwrite=overwrite, progress=progress)
    # the next run removes it if this one is killed
    intermediate = target.with_name(f".{target.name}.native.part")
    try:
        _quantize_native(header, contents, intermediate, plan, overwrite=True, progress=progress)
        report = _translate(read_header(intermediate), target, layout, overwrite=overwrite)
    finally:
        with contextlib.suppress(OSError):  # still mapped (Windows): the next run removes it
            remove_file(intermediate)
    return FileReport(target, report.num_layers, header.num_bytes, report.bytes_after, plan.keep)


def only_translates(header: Header, layout: str) -> bool:
    """Say whether a file is quantized already, so that only its keys change."""
    is_int8 = any(dtype == "int8" and key.endswith(".weight") for key, (dtype, _) in header.tensors.items())
    return is_quanto(header.tensors) or (layout != "native" and is_int8)


def save_state_dict(
    state_dict: Mapping[str, Tensor], target: Path, *, metadata: Mapping[str, str], overwrite: bool = False
) -> int:
    """Write a state dict as safetensors, whole or not at all; return its size in bytes."""
    with whole_file(target, num_bytes=num_bytes(describe_tensors(state_dict)), overwrite=overwrite) as file:
        write_tensors(file, state_dict, metadata)
    return target.stat().st_size


def read_kept(header: Header) -> tuple[tuple[str, ...], str]:
    """Return the layers that were kept when a file was quantized here, and how they were chosen.

    Both are empty if the header does not say, as in files of other tools.
    """
    method = _read_method(header)
    try:
        return tuple(name for name in method["keep"] if isinstance(name, str)), str(method["found_by"])
    except (KeyError, TypeError):  # none was kept, or somebody edited it
        return (), ""


def _read_method(header: Header) -> dict:
    """Return how a file was quantized here; nothing of that is in files of other tools, or that somebody edited."""
    try:
        method = json.loads(header.metadata[PROVENANCE])["method"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return method if isinstance(method, dict) else {}


def provenance(method: dict, source: Mapping[str, object]) -> dict[str, str]:
    """Return the header entry that says what made a file, from what and how.

    Args:
        method: ``entry`` of a plan; empty where another tool has quantized the source.
    """
    entry = {
        "method": method,
        "source": dict(source),
        "versions": {"torch": torch.__version__},
        "tool": "ComfyUI-Magic141",
    }
    return {"format": "pt", PROVENANCE: json.dumps(entry)}


def _quantize_native(
    header: Header,
    contents: SourceLayout,
    target: Path,
    plan: QuantizationPlan,
    *,
    overwrite: bool,
    progress: Progress,
) -> FileReport:
    chosen = plan_file(header, contents, plan)
    size, done = header.num_bytes, 0
    with (
        SourceReader(header, contents) as reader,
        whole_file(target, num_bytes=num_bytes(chosen.tensors), overwrite=overwrite) as file,
    ):
        unknown = ["0" * 64] * len(header.files)  # replaced by digests of the same length
        writer = TensorWriter(file, chosen.tensors, _metadata(header, plan, unknown))
        for converted in convert_weights(reader, chosen, plan):
            for name, values in converted.tensors.items():
                writer.write(name, values)
            done += converted.bytes_read
            progress(min(done, size), size)
        writer.set_metadata(_metadata(header, plan, reader.digests()))
    return FileReport(target, len(chosen.layers), size, target.stat().st_size, chosen.kept)


def _metadata(header: Header, plan: QuantizationPlan, digests: list[str]) -> dict[str, str]:
    """Return the new file's metadata: the source's, which the host may read, and what the file was made from."""
    inherited = {key: value for key, value in header.metadata.items() if key not in DROPPED_METADATA}
    return inherited | provenance(plan.entry, _describe_source(header, digests))


def _describe_source(header: Header, digests: list[str]) -> dict[str, object]:
    files: list[dict[str, object]] = [
        {"name": file.path.name, "bytes": file.num_bytes, "sha256": sha256}
        for file, sha256 in zip(header.files, digests, strict=True)
    ]
    whole = {"name": header.path.name, "bytes": header.num_bytes, "parts": files}
    return whole if header.parts else files[0]


def _translate(header: Header, target: Path, layout: str, *, overwrite: bool) -> FileReport:
    """Rewrite an int8 file between quanto's keys and the host's; the integers stay the same."""
    quanto_in = is_quanto(header.tensors)
    if quanto_in != (layout == "native"):
        raise ValueError(
            f"{header.path.name} is quantized already, in the layout you chose. There is nothing to do."
        )
    weights, metadata = _map_weights(header), {"format": "pt"}
    if header.metadata.get(PROVENANCE):
        metadata[PROVENANCE] = header.metadata[PROVENANCE]
    if quanto_in:
        state_dict = from_quanto(weights)
        check_layers(state_dict, header.path.name)
        source = _describe_source(header, [file_sha256(file.path) for file in header.files])
        method = _read_method(header)
        metadata |= provenance(method, source if method else source | {"quantized_by": "optimum-quanto"})
    else:
        check_layers(weights, header.path.name)
        state_dict, layers = to_quanto(weights, names=layout.removeprefix("quanto_"))
        metadata[QUANTO_MAP] = json.dumps(layers)
    num_layers = sum(key.endswith((".weight_scale", ".weight._scale")) for key in state_dict)
    size = save_state_dict(state_dict, target, metadata=metadata, overwrite=overwrite)
    return FileReport(target, num_layers, header.num_bytes, size)


def _map_weights(header: Header) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for file in header.files:
        if file.container == "torch":
            weights |= load_torch_zip(file.path)
        else:
            weights |= map_tensors(file.path, file.tensors, file.starts)
    return weights


def _check_paths(header: Header, target: Path, layout: str, *, overwrite: bool) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"Layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}.")
    if target.suffix != ".safetensors":
        raise ValueError(f"The new file must end in .safetensors; got {target.name}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {target.parent} does not exist.")
    if target.exists() and any(target.samefile(file.path) for file in header.files):
        raise ValueError(f"{target.name} is the file to quantize. Give the new file another name.")
    refuse_to_overwrite(target, overwrite=overwrite)
