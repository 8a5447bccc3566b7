"""One process of a tiny training: a test starts several, which then write what they lost and learned."""

import os
import sys
from pathlib import Path

import torch
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import Task, distill

from .tiny_dit import tiny_dit
from .tiny_source import TinySource


def train_rank(rank: int, count: int, port: int, run_dir: str, config: DistillConfig) -> None:
    """Train as one of the processes that ``torchrun`` starts; write ``result-RANK.pt``: losses of steps, weights."""
    here = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": count,
        "RANK": rank,
        "LOCAL_RANK": rank,
    }
    os.environ.update({name: str(value) for name, value in here.items()})
    torch.set_num_threads(1)
    losses = []
    model = distill(
        Task(config, TinySource(), tiny_dit()),
        Path(run_dir),
        on_step=lambda report: losses.append(report.losses),
    )
    torch.save({"losses": losses, "weights": dict(model.weights)}, Path(run_dir) / f"result-{rank}.pt")
    # torch keeps sharded tensors' process groups in caches of its own; gloo's threads then outlive the group, and once
    # in some hundred times Python aborts while it ends under them, with everything written
    sys.stdout.flush()
    os._exit(0)
