"""Checkpoints of a run: distributed (any number of processes may open them), whole or not there at all.

``run_dir/checkpoints/step-000100`` holds tensors in torch.distributed.checkpoint's format; ``run_dir/config.json``
says what the run is, ``run_dir/log.jsonl`` what every step came to.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch import Tensor

from .config import DistillConfig, check_same_run
from .parallel import World

KEPT = 2
SAMPLED_VALUES = 64
_NAME = re.compile(r"^step-(\d+)$")


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return a short digest of names, shapes and some values of weights: enough to tell one model from another."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        flat = weights[key].detach().flatten()
        some = flat[:: max(1, flat.numel() // SAMPLED_VALUES)].float().cpu().contiguous()
        digest.update(f"{key}{tuple(weights[key].shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    def saved_steps(self) -> list[int]:
        """Return the steps that have a whole checkpoint, ascending."""
        if not self.checkpoints.is_dir():
            return []
        names = (_NAME.match(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:06d}"

    def latest(self) -> Path | None:
        """Return the newest whole checkpoint."""
        steps = self.saved_steps()
        return self.checkpoint(steps[-1]) if steps else None

    def open(self, config: DistillConfig, place: World, **identity: object) -> None:
        """Start the run, or check that the one here has the same configuration.

        Args:
            identity: what must be the same beside the configuration: the weights, the data.
        Raises:
            ValueError: another run lies here.
        """
        wanted = {**config.written(), **identity}
        if self.saved_steps() and self.config_file.exists():
            saved = json.loads(self.config_file.read_text(encoding="utf-8"))
            check_same_run(saved, wanted, self.path)
        place.wait()  # nobody writes before everybody has read
        if place.is_first:
            self.path.mkdir(parents=True, exist_ok=True)
            self.config_file.write_text(json.dumps(wanted, indent=1), encoding="utf-8")

    def save(self, step: int, state: dict, place: World) -> None:
        """Write a checkpoint: under another name until it is whole; the oldest go."""
        target = self.checkpoint(step)
        part = target.with_suffix(".part")
        if place.is_first:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        place.wait()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no process group, where there is one process
            dcp.save(state, checkpoint_id=part, no_dist=place.size == 1)
        place.wait()
        if place.is_first:
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
            for old in self.saved_steps()[:-KEPT]:
                shutil.rmtree(self.checkpoint(old))
        place.wait()

    def load(self, state: dict, place: World) -> int:
        """Read the newest checkpoint into the tensors of ``state`` and return its step; 0 where there is none."""
        latest = self.latest()
        if latest is None:
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(state, checkpoint_id=latest, no_dist=place.size == 1)
        return self.saved_steps()[-1]

    def start_log(self, step: int) -> None:
        """Drop what the log says about steps after ``step``, which will be done again."""
        if self.log_file.exists():
            kept = [line for line in self.read_log() if line["step"] <= step]
            text = "".join(json.dumps(line) + "\n" for line in kept)
            self.log_file.write_text(text, encoding="utf-8")

    def log(self, **values: object) -> None:
        """Add a line to the log."""
        with self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_log(self) -> list[dict]:
        """Return the log's lines; one that was cut short by a kill is left out."""
        if not self.log_file.exists():
            return []
        lines = self.log_file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]
