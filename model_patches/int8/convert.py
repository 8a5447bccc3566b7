"""Make the weights of the new file from those of the old: one thread reads and writes, others compute."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..dit.stream import torch_dtype
from ..store.threads import map_ahead
from .choice import FilePlan
from .quantize import QuantizationPlan, check_finite, encode_config, quantize_rows
from .source import Block, SourceReader

#: Threads that compute. More would wait for the disk.
THREADS = 2
#: Blocks that are in memory at a time.
BLOCKS_AHEAD = 4


class Converted(NamedTuple):
    """Values to append to tensors of the new file, and how many bytes of the old file they come from."""

    tensors: Mapping[str, Tensor]
    bytes_read: int


class _Task(NamedTuple):
    """Some rows of one weight.

    Args:
        absmax: the whole weight's max|w|, where it gets one scale; else None.
    """

    key: str
    block: Block
    absmax: Tensor | None


def convert_weights(reader: SourceReader, chosen: FilePlan, plan: QuantizationPlan) -> Iterator[Converted]:
    """Yield what the new file holds, in the order in which the old one is read.

    Raises:
        ValueError: weights are NaN or Inf; the message names them.
    """

    def convert(task: _Task) -> Converted:
        is_layer = task.key in chosen.layers
        with _naming(reader.origin(task.key)):
            tensors = _quantize(task, plan) if is_layer else _copy(task, reader.info(task.key).dtype)
        return Converted(tensors, task.block.rows.nbytes)

    tasks = _read_tasks(reader, chosen, plan)
    return map_ahead(convert, tasks, threads=THREADS, ahead=BLOCKS_AHEAD)


def _read_tasks(reader: SourceReader, chosen: FilePlan, plan: QuantizationPlan) -> Iterator[_Task]:
    for key in reader.in_file_order():
        has_one_scale = plan.granularity == "tensor" and key in chosen.layers
        with _naming(reader.origin(key)):
            absmax = _find_absmax(reader, key) if has_one_scale else None
            for block in reader.blocks(key):
                yield _Task(key, block, absmax)


def _find_absmax(reader: SourceReader, key: str) -> Tensor:
    chunks = (rows for block in reader.blocks(key) for rows in block.chunks())
    return torch.stack([rows.float().abs().max() for rows in chunks]).max()


def _quantize(task: _Task, plan: QuantizationPlan) -> dict[str, Tensor]:
    key, block, absmax = task
    pairs = [quantize_rows(rows, plan, absmax=absmax) for rows in block.chunks()]
    integers, scales = zip(*pairs, strict=True)
    name, is_first = key.removesuffix(".weight"), block.first_row == 0
    tensors = {key: torch.cat(integers)}
    if absmax is None:
        tensors[f"{name}.weight_scale"] = torch.cat(scales)
    elif is_first:
        tensors[f"{name}.weight_scale"] = scales[0]
    if is_first:
        tensors[f"{name}.comfy_quant"] = encode_config(plan.layer_config(block.rows.shape[1]))
    return tensors


def _copy(task: _Task, dtype: str) -> dict[str, Tensor]:
    copied = []
    for rows in task.block.chunks():
        if rows.is_floating_point() and rows.numel():
            check_finite(rows.float().abs().max())
        copied.append(rows.to(torch_dtype(dtype)))
    return {task.key: torch.cat(copied)}


@contextlib.contextmanager
def _naming(weight: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{weight}: {error}. The checkpoint is damaged; nothing was written.") from error
