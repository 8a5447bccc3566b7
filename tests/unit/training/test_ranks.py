"""Two gloo processes with FSDP2 train as one process does, and each opens the other's checkpoints."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import Task, distill
from magic141.model_patches.training.parallel import Processes, my_micro_batches
from magic141.model_patches.training.twin import from_host
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY
from magic141.tests.support.train_ranks import train_rank

CONFIG = replace(TINY, total_steps=2, micro_batch_size=1, fake_updates=1, save_every=1)
START_METHOD = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
mp.set_forkserver_preload(
    [train_rank.__module__, "diffusers.models.transformers.transformer_hunyuan_video", "peft"]
)
"""What takes seconds to import is imported once, by the process that the others are forked from."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def two_processes(config: DistillConfig, run_dir: Path) -> list[dict]:
    """Start two processes as ``torchrun`` would and return what they wrote."""
    arguments = (2, free_port(), str(run_dir), config)
    mp.start_processes(train_rank, arguments, nprocs=2, start_method=START_METHOD)
    return [torch.load(run_dir / f"result-{rank}.pt", weights_only=True) for rank in range(2)]


def one_process(config: DistillConfig, run_dir: Path) -> dict:
    losses = []
    model = distill(
        Task(config, TinySource(), tiny_dit()),
        run_dir,
        on_step=lambda report: losses.append(report.losses),
    )
    return {"losses": losses, "weights": dict(model.weights)}


def assert_alike(one: dict, other: dict) -> None:
    """Compare losses and weights; of a whole model what training changed in it, as one vector.

    DMD's loss is the square of a small difference: rounding grows in it. Adam divides each gradient by its own size,
    so where the gradient is rounding alone the weight still moves by the learning rate, either way.
    """
    for losses, others in zip(one["losses"], other["losses"], strict=True):
        assert losses == pytest.approx(others, rel=1e-2)
    assert one["weights"].keys() == other["weights"].keys()
    start = from_host(tiny_dit()).state_dict()
    whole = [key for key in one["weights"] if key in start]
    for key in one["weights"].keys() - whole:
        assert torch.allclose(one["weights"][key], other["weights"][key], rtol=1e-3, atol=1e-5), key
    if whole:
        learned, others = (
            torch.cat([(run["weights"][key] - start[key]).flatten() for key in whole]) for run in (one, other)
        )
        assert (learned - others).norm() < 0.05 * others.norm()


@pytest.mark.parametrize(
    "config", [CONFIG, replace(CONFIG, train="full", sharded=False)], ids=["fsdp", "replicas"]
)
def test_two_processes_train_as_one(tmp_path, config):
    one = one_process(config, tmp_path / "one")
    first, second = two_processes(config, tmp_path / "two")
    assert first["losses"] == second["losses"]
    assert_alike(first, one)


def test_two_processes_with_frozen_bfloat16_weights_and_checkpointed_blocks(tmp_path):
    """What the 13B model is trained with: float32 adapters on bfloat16 weights in one sharded block."""
    config = replace(CONFIG, total_steps=1, precision="bfloat16", gradient_checkpointing=True)
    one = one_process(config, tmp_path / "one")
    first, second = two_processes(config, tmp_path / "two")
    assert first["losses"] == second["losses"]
    assert first["losses"][0] == pytest.approx(one["losses"][0], rel=0.05)
    assert all(weight.dtype == torch.float32 for weight in first["weights"].values())


def test_a_checkpoint_of_two_processes_goes_on_in_one(tmp_path):
    half = tmp_path / "run"
    both, _ = two_processes(CONFIG, half)
    (half / "checkpoints" / "step-000002").rename(tmp_path / "later")
    rest = one_process(CONFIG, half)
    assert len(rest["losses"]) == 1
    assert_alike({"losses": both["losses"][1:], "weights": both["weights"]}, rest)


def test_a_checkpoint_of_one_process_goes_on_in_two(tmp_path):
    """Past a damaged one: the processes agree which one they read."""
    run = tmp_path / "run"
    one = one_process(CONFIG, run)
    (run / "checkpoints" / "step-000002" / "state.safetensors").write_bytes(b"damaged")
    first, second = two_processes(CONFIG, run)
    assert first["losses"] == second["losses"]
    assert_alike({"losses": one["losses"][1:], "weights": one["weights"]}, first)


def test_dealing_out_micro_batches():
    device = torch.device("cpu")
    config = replace(CONFIG, batch_size=8, micro_batch_size=2)
    assert [list(my_micro_batches(config, Processes(r, 2, device))[0]) for r in range(2)] == [[0, 2], [1, 3]]
    with pytest.raises(ValueError, match="8 in micro-batches of 2 cannot be dealt out evenly to 3"):
        my_micro_batches(config, Processes(0, 3, device))
