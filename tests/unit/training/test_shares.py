"""The embedded models' training on two processes: every process steps with the mean of all gradients."""

import socket

import torch
import torch.multiprocessing as mp
from magic141.model_patches.training.parallel import average_gradients, this_process
from magic141.tests.support.gradient_ranks import write_gradients
from torch import nn


def test_two_processes_average_their_gradients(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    start = "forkserver" if "forkserver" in mp.get_all_start_methods() else "spawn"
    mp.start_processes(write_gradients, (2, address, str(tmp_path)), nprocs=2, start_method=start)
    for rank in range(2):
        weight, bias = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(weight, torch.full((2, 3), 1.5))
        assert torch.equal(bias, torch.ones(2))


def test_one_process_keeps_its_own():
    layer = nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    before = layer.weight.grad.clone()
    average_gradients(layer.parameters(), this_process())
    assert torch.equal(layer.weight.grad, before)
