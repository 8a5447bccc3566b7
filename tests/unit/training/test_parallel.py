"""What processes of a training are, asked in one: devices, precision, shares of a batch."""

from dataclasses import replace

import pytest
import torch
from magic141.model_patches.training import parallel
from magic141.model_patches.training.parallel import (
    Processes,
    choose_device,
    gathered,
    join_processes,
    my_micro_batches,
    quick_precision,
    this_process,
)
from magic141.tests.support.tiny_training import TINY

CPU = torch.device("cpu")


def test_accelerators_are_quick_at_bfloat16_and_processors_where_they_have_it(monkeypatch):
    assert quick_precision(torch.device("cuda")) == "bfloat16"
    for avx, amx, quick in ((True, False, "bfloat16"), (False, True, "bfloat16"), (False, False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        assert quick_precision(CPU) == quick


def test_every_process_of_a_machine_takes_its_own_accelerator(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device("auto") == torch.device("cuda", 3)
    assert taken == [0, 0, 3]
    assert choose_device("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU


def test_alone_is_the_first_of_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert this_process() == Processes(0, 1, CPU)
    assert this_process(torch.device("meta")).device == torch.device("meta")
    with join_processes(replace(TINY, device="cpu")) as processes:
        assert processes == Processes(0, 1, CPU)
        assert not torch.distributed.is_initialized()
    assert processes.is_first
    assert not Processes(1, 2, CPU).is_first


def test_alone_everything_is_ones_own():
    alone = Processes(0, 1, CPU)
    assert alone.mean({}) == {}
    assert alone.mean({"a": torch.tensor(2), "b": torch.tensor(0.5, requires_grad=True)}) == {
        "a": 2.0,
        "b": 0.5,
    }
    assert alone.any(True) is True
    assert alone.any(False) is False
    assert alone.first_says(7) == 7
    alone.wait()
    tensor = torch.ones(2, requires_grad=True)
    assert torch.equal(gathered(tensor), torch.ones(2))
    assert not gathered(tensor).requires_grad


class Recorded:
    """The process group of two, of which the other says the same."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self.calls.append("all_reduce")
        tensor *= 2

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        self.calls.append(f"broadcast from {source}")
        tensor += 1

    def barrier(self) -> None:
        self.calls.append("barrier")


def test_two_share_what_they_have(monkeypatch):
    group = Recorded()
    monkeypatch.setattr(parallel, "dist", group)
    one = Processes(1, 2, CPU)
    assert one.mean({"a": torch.tensor(3.0)}) == {"a": 3.0}
    assert one.any(True)
    assert not one.any(False)
    assert one.first_says(7) == 8
    one.wait()
    assert group.calls == ["all_reduce"] * 3 + ["broadcast from 0", "barrier"]


@pytest.mark.parametrize(
    ("batch", "micro", "size", "shares"),
    [
        (4, 0, 1, [([0], 4)]),
        (4, 0, 2, [([0], 2), ([1], 2)]),
        (4, 1, 2, [([0, 2], 1), ([1, 3], 1)]),
        (4, 4, 1, [([0], 4)]),
    ],
)
def test_micro_batches_are_dealt_out_in_turn(batch, micro, size, shares):
    config = replace(TINY, batch_size=batch, micro_batch_size=micro)
    dealt = [my_micro_batches(config, Processes(rank, size, CPU)) for rank in range(size)]
    assert [(list(indices), count) for indices, count in dealt] == shares


@pytest.mark.parametrize(("batch", "micro", "size"), [(1, 0, 2), (3, 0, 2), (4, 4, 2), (6, 2, 2)])
def test_batches_that_do_not_come_out_even_are_refused(batch, micro, size):
    config = replace(TINY, batch_size=batch, micro_batch_size=micro)
    with pytest.raises(
        ValueError, match=f"batch_size {batch} in micro-batches of .* evenly to {size} processes"
    ):
        my_micro_batches(config, Processes(0, size, CPU))


@pytest.mark.parametrize(("device", "backend"), [("cuda", "nccl"), ("cpu", "gloo")])
def test_processes_are_joined_by_what_their_devices_speak(monkeypatch, device, backend):
    said = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(parallel.dist, "init_process_group", said.append)
    monkeypatch.setattr(parallel.dist, "destroy_process_group", lambda: said.append("left"))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    with join_processes(replace(TINY, device=device)):
        assert said == [backend]
    assert said == [backend, "left"]


def test_all_gradients_are_averaged_each_in_its_own_shape(monkeypatch):
    group = Recorded()
    monkeypatch.setattr(parallel, "dist", group)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (2,), (4,))]
    parameters[0].grad = torch.arange(6.0).reshape(2, 3)
    parameters[2].grad = torch.arange(4.0)
    parallel.average_gradients(parameters, Processes(1, 2, CPU))
    assert torch.equal(parameters[0].grad, torch.arange(6.0).reshape(2, 3))
    assert parameters[1].grad is None, "what took no part has none"
    assert torch.equal(parameters[2].grad, torch.arange(4.0))
    monkeypatch.setattr(group, "all_reduce", lambda joined: joined.add_(10))
    parallel.average_gradients(parameters, Processes(1, 2, CPU))
    assert torch.equal(parameters[2].grad, (torch.arange(4.0) + 10) / 2)
    parallel.average_gradients(parameters, Processes(0, 1, CPU))
    assert torch.equal(parameters[2].grad, (torch.arange(4.0) + 10) / 2), "alone there is nobody to ask"


class TwinOfBlocks(torch.nn.Module):
    """Two double and one single block."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer_blocks = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
        self.single_transformer_blocks = torch.nn.ModuleList([torch.nn.Linear(1, 1)])


def test_every_block_is_split_by_itself_and_then_the_rest(monkeypatch):
    split = []
    monkeypatch.setattr("torch.distributed.device_mesh.init_device_mesh", lambda *arguments: arguments)
    monkeypatch.setattr(
        "torch.distributed.fsdp.fully_shard", lambda module, *, mesh: split.append((module, mesh))
    )
    first, second = TwinOfBlocks(), TwinOfBlocks()
    parallel.shard([first, second], Processes(0, 2, CPU))
    wanted = [
        module
        for twin in (first, second)
        for module in (*twin.transformer_blocks, *twin.single_transformer_blocks, twin)
    ]
    assert [module for module, _ in split] == wanted
    assert len(wanted) == 8
    assert {mesh for _, mesh in split} == {("cpu", (2,))}
