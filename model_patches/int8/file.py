"""Quantize a checkpoint from file to file, a few rows at a time, into the host's keys or quanto's."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from ..dit.checkpoint import identify
from ..dit.stream import (
    FileDigest,
    RowReader,
    TensorWriter,
    num_elements,
    refuse_to_overwrite,
    torch_dtype,
    whole_file,
)
from ..dit.weights_file import Header, TensorInfo, load_torch_zip, read_header
from ..store.files import file_sha256
from .check import check_layers
from .quantize import INT4_FORMAT, QuantizationPlan, encode_config, quantize_rows
from .quanto import NAMES, from_quanto, is_quanto, to_quanto

#: Elements quantized at a time; in fp32 and with what the arithmetic needs, about 20 MB.
CHUNK_ELEMENTS = 1 << 20

#: Header key of where a file comes from.
PROVENANCE = "magic141_quantization"
QUANTO_MAP = "quantization_map"
QUANT_MARKS = (".comfy_quant", ".weight_scale", ".scale_weight", "scaled_fp8")
FLOAT_TYPES = ("float32", "float16", "bfloat16", "float64")
LAYOUTS = ("native", *(f"quanto_{names}" for names in NAMES))

#: Called with (bytes done, bytes in all); raising stops the run and leaves nothing.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FileReport:
    """What was written."""

    path: Path
    num_layers: int
    bytes_before: int
    bytes_after: int

    @property
    def line(self) -> str:
        share = self.bytes_after / self.bytes_before
        return (
            f"{self.path.name}: {self.num_layers} layers quantized, {self.bytes_before / 1e6:,.0f} MB -> "
            f"{self.bytes_after / 1e6:,.0f} MB ({share:.0%})."
        )


def quantize_file(
    source: str | Path,
    target: str | Path,
    plan: QuantizationPlan,
    *,
    layout: str = "native",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> FileReport:
    """Quantize ``source`` into the new file ``target``; a quanto file is only translated.

    Args:
        source: safetensors or ``.pth`` of the HunyuanVideo layout, in the host's, the authors' or, when quanto
            wrote it, diffusers' names.
        target: a ``.safetensors`` file.
        layout: "native" (ComfyUI opens it), "quanto_diffusers" or "quanto_authors".
    Raises:
        FileExistsError: the target exists and ``overwrite`` is False.
        ValueError: quantized already, NaN or Inf, another architecture; the message says which.
        OSError: the disk is full.
    """
    source, target = Path(source), Path(target)
    _check_paths(source, target, layout, overwrite=overwrite)
    header = read_header(source)
    if is_quanto(header.tensors):
        return _translate(header, target, plan, layout, overwrite=overwrite)
    if layout != "native" and _is_native_int8(header):
        return _translate(header, target, plan, layout, overwrite=overwrite)
    if layout == "native":
        return _quantize_native(header, target, plan, overwrite=overwrite, progress=progress)
    step = target.with_name(f".{target.name}.native.part")  # removed by the next run if this one is killed
    try:
        _quantize_native(header, step, plan, overwrite=True, progress=progress)
        report = _translate(read_header(step), target, plan, layout, overwrite=overwrite)
    finally:
        step.unlink(missing_ok=True)
    return FileReport(target, report.num_layers, source.stat().st_size, report.bytes_after)


def save_state_dict(
    state_dict: Mapping[str, Tensor], target: Path, *, metadata: Mapping[str, str], overwrite: bool = False
) -> int:
    """Write a state dict as safetensors, whole or not at all; return its size in bytes."""
    tensors = {
        k: TensorInfo(str(v.dtype).removeprefix("torch."), tuple(v.shape)) for k, v in state_dict.items()
    }
    with whole_file(target, num_bytes=_num_bytes(tensors), overwrite=overwrite) as file:
        writer = TensorWriter(file, tensors, metadata)
        for name, tensor in state_dict.items():
            for piece in tensor.reshape(-1).split(CHUNK_ELEMENTS):
                writer.write(name, piece)
    return target.stat().st_size


def provenance(plan: QuantizationPlan, source: Mapping[str, object]) -> dict[str, str]:
    """Return the header entry that says what made a file, from what and how."""
    entry = {
        "method": asdict(plan),
        "source": dict(source),
        "versions": {"torch": torch.__version__},
        "tool": "ComfyUI-Magic141",
    }
    return {"format": "pt", PROVENANCE: json.dumps(entry)}


def _quantize_native(
    header: Header, target: Path, plan: QuantizationPlan, *, overwrite: bool, progress: Progress | None
) -> FileReport:
    renames = identify(header).renames
    _refuse_quantized(header)
    planned = {host: key for key, host in renames.items() if plan.selects(host, header.tensors[key].shape)}
    size = header.path.stat().st_size
    count = _Counter(size, progress)
    tensors = _planned_tensors(header, renames, planned, plan)
    source = {"name": header.path.name, "bytes": size, "sha256": "0" * 64}
    with (
        FileDigest(header.path) as digest,
        RowReader(header, digest=digest) as reader,
        whole_file(target, num_bytes=_num_bytes(tensors), overwrite=overwrite) as file,
    ):
        writer = TensorWriter(file, tensors, provenance(plan, source))
        for key in sorted(renames, key=lambda key: header.starts.get(key, 0)):
            copy = _quantize_tensor if renames[key] in planned else _copy_tensor
            copy(reader, writer, key, renames[key], plan, count)
        writer.set_metadata(provenance(plan, source | {"sha256": digest.hexdigest()}))
    return FileReport(target, len(planned), size, target.stat().st_size)


def _quantize_tensor(
    reader: RowReader, writer: TensorWriter, key: str, host: str, plan: QuantizationPlan, count: Callable
) -> None:
    name = host.removesuffix(".weight")
    absmax, scale = None, None
    try:
        if plan.granularity == "tensor":
            absmax = torch.stack([rows.float().abs().max() for rows in _chunks(reader, key)]).max()
        for rows in _chunks(reader, key):
            integers, scale = quantize_rows(rows, plan, absmax=absmax)
            writer.write(host, integers)
            if plan.granularity == "row":
                writer.write(f"{name}.weight_scale", scale)
            count(rows.nbytes)
    except ValueError as error:
        raise ValueError(f"{key}: {error}. The checkpoint is damaged; nothing was written.") from error
    if plan.granularity == "tensor":
        assert scale is not None
        writer.write(f"{name}.weight_scale", scale)
    writer.write(f"{name}.comfy_quant", encode_config(plan.layer_config(reader.tensors[key].shape[1])))


def _copy_tensor(
    reader: RowReader, writer: TensorWriter, key: str, host: str, _plan, count: Callable
) -> None:
    for rows in _chunks(reader, key):
        if rows.is_floating_point() and not bool(torch.isfinite(rows.float()).all()):
            raise ValueError(f"{key} holds NaN or Inf. The checkpoint is damaged; nothing was written.")
        writer.write(host, rows)
        count(rows.nbytes)


def _chunks(reader: RowReader, key: str) -> Iterator[Tensor]:
    shape = reader.tensors[key].shape or (1,)
    step = max(1, CHUNK_ELEMENTS // max(1, num_elements(shape[1:])))
    for first in range(0, shape[0], step):
        yield reader.rows(key, first, min(first + step, shape[0]))


def _planned_tensors(
    header: Header, renames: Mapping[str, str], planned: Mapping[str, str], plan: QuantizationPlan
) -> dict[str, TensorInfo]:
    tensors = {}
    for key, host in renames.items():
        dtype, shape = header.tensors[key]
        if host not in planned:
            tensors[host] = TensorInfo(dtype, shape)
            continue
        name, config = host.removesuffix(".weight"), plan.layer_config(shape[1])
        is_int4 = config["format"] == INT4_FORMAT
        tensors[host] = TensorInfo("int8", (shape[0], shape[1] // 2) if is_int4 else shape)
        scale_shape = () if plan.granularity == "tensor" else (shape[0],) if is_int4 else (shape[0], 1)
        tensors[f"{name}.weight_scale"] = TensorInfo("float32", scale_shape)
        tensors[f"{name}.comfy_quant"] = TensorInfo("uint8", tuple(encode_config(config).shape))
    return tensors


def _translate(
    header: Header, target: Path, plan: QuantizationPlan, layout: str, *, overwrite: bool
) -> FileReport:
    """Rewrite an int8 file between quanto's keys and the host's; the integers stay the same."""
    quanto_in = is_quanto(header.tensors)
    if quanto_in != (layout == "native"):
        raise ValueError(f"{header.path.name} is quantized already, in this very layout. Nothing to do.")
    weights, metadata = _mapped(header), {"format": "pt"}
    if header.metadata.get(PROVENANCE):
        metadata[PROVENANCE] = header.metadata[PROVENANCE]
    if quanto_in:
        state_dict = from_quanto(weights)
        check_layers(state_dict, header.path.name)
        source = {
            "name": header.path.name,
            "bytes": header.path.stat().st_size,
            "quantized_by": "optimum-quanto",
        }
        metadata |= provenance(plan, source | {"sha256": file_sha256(header.path)})
    else:
        check_layers(weights, header.path.name)
        state_dict, layers = to_quanto(weights, names=layout.removeprefix("quanto_"))
        metadata[QUANTO_MAP] = json.dumps(layers)
    num_layers = sum(key.endswith((".weight_scale", ".weight._scale")) for key in state_dict)
    size = save_state_dict(state_dict, target, metadata=metadata, overwrite=overwrite)
    return FileReport(target, num_layers, header.path.stat().st_size, size)


def _mapped(header: Header) -> dict[str, Tensor]:
    if header.container == "torch":
        return load_torch_zip(header.path)
    with safetensors.safe_open(header.path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _check_paths(source: Path, target: Path, layout: str, *, overwrite: bool) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"Layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}.")
    if target.suffix != ".safetensors":
        raise ValueError(f"The new file must end in .safetensors; got {target.name}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"The folder {target.parent} does not exist.")
    if target.exists() and target.samefile(source):
        raise ValueError(f"{target.name} is the file to quantize. Give the new file another name.")
    refuse_to_overwrite(target, overwrite=overwrite)


def _is_native_int8(header: Header) -> bool:
    return any(key.endswith(".comfy_quant") for key in header.tensors)


def _refuse_quantized(header: Header) -> None:
    for key, (dtype, shape) in header.tensors.items():
        if key.endswith(QUANT_MARKS) or (len(shape) == 2 and dtype not in FLOAT_TYPES):
            raise ValueError(
                f"{header.path.name} is quantized already ({key} is {dtype}). Start from the bf16, fp16 or fp32 "
                "checkpoint."
            )


def _num_bytes(tensors: Mapping[str, TensorInfo]) -> int:
    return sum(num_elements(shape) * torch_dtype(dtype).itemsize for dtype, shape in tensors.values())


class _Counter:
    """Add up bytes and pass the sum on."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done = total, progress, 0

    def __call__(self, num_bytes: int) -> None:
        self.done += num_bytes
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)
