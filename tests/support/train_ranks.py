"""One process of a tiny training: ``torchrun`` or a test starts several, which then write what they lost and learnt.

Usage: python -m magic141.tests.support.train_ranks RUN_DIR CONFIG_JSON
"""

import json
import os
import sys
from pathlib import Path

import torch
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import Task, distill

from .tiny_dit import tiny_dit
from .tiny_source import TinySource


def main(run_dir: str, config: str) -> None:
    """Train and write ``result-RANK.pt``: the losses of every step and the averaged weights."""
    torch.set_num_threads(1)
    losses = []
    model = distill(
        Task(DistillConfig(**json.loads(config)), TinySource(), tiny_dit()),
        Path(run_dir),
        on_step=lambda report: losses.append(report.losses),
    )
    result = {"losses": losses, "weights": dict(model.weights)}
    torch.save(result, Path(run_dir) / f"result-{os.environ.get('RANK', '0')}.pt")


if __name__ == "__main__":
    main(sys.argv[1], json.dumps(json.loads(sys.argv[2])))
    # torch keeps sharded tensors' process groups in caches of its own; gloo's threads then outlive the group, and once
    # in some hundred times Python aborts while it ends under them, with everything written
    sys.stdout.flush()
    os._exit(0)
