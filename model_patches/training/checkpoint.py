"""The folder of a run, with checkpoints that are written whole or not at all and that any number of processes open.

``run_dir/checkpoints/step-000100`` holds tensors (see ``state_file``); ``run_dir/config.json`` says what the run is,
``run_dir/log.jsonl`` how every step went. All of it may come from elsewhere, and nothing in it can execute code.
"""

import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..store.cancel import until_canceled
from ..store.directory_lock import DirectoryLock
from ..store.disk import disk_errors
from ..store.files import read_json_lines, read_json_object, remove_parts, restore_folders, write_text
from .config import SET_CONTENT, DistillConfig, check_same_run
from .parallel import Processes
from .state_file import StateUnreadable, check_state, read_state, write_state

KEPT = 2
SAMPLED_VALUES = 64
_NAME = re.compile(r"^step-([0-9]{6,12})$")


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return a short digest of names, shapes and some values of weights: enough to tell one model from another."""
    digest = hashlib.sha256()
    for key in until_canceled(sorted(weights)):
        flat = weights[key].detach().flatten()
        sampled = flat[:: max(1, flat.numel() // SAMPLED_VALUES)].float().cpu().contiguous()
        digest.update(f"{key}{tuple(weights[key].shape)}".encode() + sampled.numpy().tobytes())
    return digest.hexdigest()[:16]


class RunFolder:
    """The folder of one run.

    Attributes:
        notes: what a person should know of the run that was opened, a sentence each.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.config_file, self.log_file = self.path / "config.json", self.path / "log.jsonl"
        self.notes: list[str] = []

    def saved_steps(self) -> list[int]:
        """Return the steps that have a checkpoint, ascending."""
        if not self.checkpoints.is_dir():
            return []
        names = (_NAME.match(entry.name) for entry in self.checkpoints.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:06d}"

    @contextmanager
    def hold(self, processes: Processes) -> Iterator[None]:
        """Let no other run use the folder; the first process takes the lock for all.

        Raises:
            ValueError: another run uses it, or it cannot be written.
        """
        lock, refused = DirectoryLock(self.path), None
        if processes.is_first:
            try:
                with disk_errors(self.path):
                    self.path.mkdir(parents=True, exist_ok=True)
                    lock.acquire()
                    restore_folders(self.checkpoints)
            except (OSError, ValueError) as error:
                refused = error
        try:
            if processes.any(refused is not None):
                raise refused or ValueError(f"The first process could not lock {self.path}; it says why.")
            yield
        finally:
            lock.release()

    def read_config(self) -> dict | None:
        """Return what the run was started with, or None where no step of it is saved.

        Raises:
            ValueError: it is damaged; says what to do.
        """
        if not self.saved_steps() or not self.config_file.exists():
            return None
        try:
            return read_json_object(self.config_file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.config_file} is damaged ({error}), so nothing says which settings the run was started with. "
                "Choose another run name; or, if you are sure that the settings are the same, delete that file, and "
                "the run goes on."
            ) from error

    def open(self, config: DistillConfig, processes: Processes, **identity: Any) -> None:
        """Start the run, or check that the one here has the same configuration.

        Args:
            identity: what must be the same beside the configuration: the weights, the data.
        Raises:
            ValueError: another run lies here.
        """
        wanted = {**asdict(config), **identity}
        if (saved := self.read_config()) is not None:
            check_same_run(saved, wanted, self.path)
            if SET_CONTENT in wanted and SET_CONTENT not in saved:
                self._note(
                    "The run was begun by an older version, which did not note what its training set held. It goes on "
                    "as if the set were the same; if you have changed it since, choose another run name to train anew."
                )
        processes.wait()  # nobody writes before everybody has read
        if processes.is_first:
            with disk_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            for part in self.checkpoints.glob("*.part"):  # what a killed process left half written
                shutil.rmtree(part, ignore_errors=True)
            remove_parts(self.path)
            write_text(self.config_file, json.dumps(wanted, indent=1))

    def save(self, step: int, state: dict, processes: Processes, *, phases: int) -> None:
        """Write a checkpoint, whole or not at all, and remove all but the newest ones.

        Args:
            phases: how many updates of the following step are done as well.

        Raises:
            ValueError, OSError: it cannot be written; those before it are kept.
        """
        write_state(self.checkpoint(step), step, _flat(state), processes, phases=phases)
        if processes.is_first:
            up_to_here = [saved for saved in self.saved_steps() if saved <= step]
            for old in up_to_here[:-KEPT]:
                shutil.rmtree(self.checkpoint(old), ignore_errors=True)
        processes.wait()

    def load(self, state: dict, processes: Processes) -> tuple[int, int]:
        """Read the newest checkpoint that is whole into the tensors of ``state``.

        Returns:
            Its step, 0 where there is none; and how many updates of the following step are done as well.
        Raises:
            ValueError: there are some, and none can be read.
        """
        tensors = _flat(state)
        step = processes.first_says(self._newest_readable(tensors) if processes.is_first else 0)
        if step < 0:
            raise ValueError(
                f"No checkpoint in {self.checkpoints} can be read: {' '.join(self.notes)} Nothing was changed. "
                "Choose another run name to start anew, or delete that folder."
            )
        return step, read_state(self.checkpoint(step), tensors, processes) if step else 0

    def _newest_readable(self, tensors: Mapping[str, Tensor]) -> int:
        """Return the newest step whose checkpoint is whole, 0 where none was saved, -1 where none can be read."""
        steps = self.saved_steps()
        for step in reversed(steps):
            try:
                check_state(self.checkpoint(step), step, tensors)
            except StateUnreadable as error:
                self._note(f"Checkpoint {self.checkpoint(step).name} was not opened: {error}.")
            else:
                return step
        return -1 if steps else 0

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        logging.warning("Magic141: %s", sentence)

    def start_log(self, step: int) -> None:
        """Drop what the log says about steps after ``step``, which will be done again."""
        if self.log_file.exists():
            rows = [row for row in self.read_log() if row["step"] <= step]
            write_text(self.log_file, "".join(json.dumps(row) + "\n" for row in rows))

    def log(self, **values: float | None) -> None:
        """Add a line to the log.

        Raises:
            ValueError: the disk is full or cannot be written.
        """
        with disk_errors(self.path), self.log_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_log(self) -> list[dict]:
        """Return the log's lines without those that a kill cut short or that are damaged."""
        return [row for row in read_json_lines(self.log_file) if _is_log_row(row)]


def _is_log_row(row: dict) -> bool:
    """Say whether this is a step's number and measures by name, None where one was not taken."""
    values = [value for value in row.values() if value is not None]
    are_numbers = all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values)
    return type(row.get("step")) is int and are_numbers


def _flat(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{group}/{name}": tensor for group, tensors in state.items() for name, tensor in tensors.items()}
