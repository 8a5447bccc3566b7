"""One of several processes that average the gradients of a small layer."""

import torch
from magic141.model_patches.training.parallel import average_gradients, this_process
from torch import nn


def write_gradients(rank: int, count: int, address: str, folder: str) -> None:
    """Write the gradients of one process, whose input is its number plus one, after averaging."""
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=count)
    layer = nn.Linear(3, 2)
    nn.init.ones_(layer.weight)
    layer(torch.full((1, 3), float(rank + 1))).sum().backward()
    average_gradients(layer.parameters(), this_process())
    torch.save([p.grad for p in layer.parameters()], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
