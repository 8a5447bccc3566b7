"""Train in one process or in many: the process group, FSDP2 sharding, and values that all processes share.

Run under ``torchrun``, every process calls the same code. A step's batch is cut into micro-batches that are seeded
by their own number, so that their distribution over processes changes nothing but the rounding.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .config import DistillConfig

if TYPE_CHECKING:
    from .twin import Twin


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them: its own number, how many there are, its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Return each value's mean over the processes."""
        if not values:
            return {}
        stacked = torch.stack([value.detach().float().to(self.device) for value in values.values()])
        if self.size > 1:
            dist.all_reduce(stacked)
        return dict(zip(values, (stacked / self.size).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        return self.mean({"flag": torch.tensor(float(flag))})["flag"] > 0

    def first_says(self, number: int) -> int:
        """Return the number that the first process gives."""
        shared = torch.tensor([number], device=self.device)
        if self.size > 1:
            dist.broadcast(shared, 0)
        return int(shared)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


def this_process(device: torch.device | None = None) -> Processes:
    """Return the processes that have been joined: this one alone where none were."""
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return Processes(rank, size, device or torch.device("cpu"))


@contextmanager
def join_processes(config: DistillConfig) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` started, or be the only one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = choose_device(config.device)
    started = size > 1 and not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield this_process(device)
    finally:
        if started:
            dist.destroy_process_group()


def choose_device(name: str) -> torch.device:
    """Return the device to train on; every process of a machine takes its own accelerator."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    return torch.device(name)


def shard(modules: Iterable["Twin"], processes: Processes) -> None:
    """Split weights, gradients and optimizer states over the processes, a block at a time (FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.size,))
    for model in modules:
        for block in (*model.transformer_blocks, *model.single_transformer_blocks):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Average the gradients of processes that each hold all weights; FSDP averages those of its shards itself."""
    if processes.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    parts = (joined / processes.size).split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def my_micro_batches(config: DistillConfig, processes: Processes) -> tuple[range, int]:
    """Return which micro-batches of a step this process takes, and how many clips each has.

    Raises:
        ValueError: the batch cannot be dealt out evenly.
    """
    size = config.micro_batch_size or config.batch_size // processes.size
    count = config.batch_size // max(1, size)
    if size < 1 or config.batch_size % size or count % processes.size:
        raise ValueError(
            f"batch_size {config.batch_size} in micro-batches of {size} cannot be dealt out evenly to {processes.size}"
            " processes. Make batch_size a multiple of micro_batch_size times the number of processes."
        )
    return range(processes.rank, count, processes.size), size


def gathered(tensor: Tensor) -> Tensor:
    """Return a tensor gathered from all processes; every process must call it."""
    gather = getattr(tensor.detach(), "full_tensor", tensor.detach)
    return gather()


def quick_precision(device: torch.device) -> str:
    """Return the precision that a device is fast at; a processor without bfloat16 emulates it, slowly."""
    if device.type != "cpu":
        return "bfloat16"
    quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if quick else "float32"
