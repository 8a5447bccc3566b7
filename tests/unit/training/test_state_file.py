"""A checkpoint's tensors: written whole, and read by every process as the rows that it holds."""

import json
from types import SimpleNamespace

import pytest
import torch
from magic141.model_patches.store.files import file_sha256
from magic141.model_patches.training import state_file
from magic141.model_patches.training.checkpoint import RunFolder
from magic141.model_patches.training.parallel import Processes, this_process
from magic141.model_patches.training.state_file import (
    StateUnreadable,
    check_state,
    read_state,
    write_state,
)
from safetensors import safe_open
from safetensors.torch import save_file

CPU = torch.device("cpu")
TENSORS = {
    "weights/a": torch.arange(10.0).reshape(5, 2),
    "weights/b": torch.tensor(3.0),
    "average/c": torch.arange(4.0).bfloat16(),
}


def zeros() -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}


def test_what_was_written_is_read_back(tmp_path):
    write_state(tmp_path / "step", 7, TENSORS, this_process())
    check_state(tmp_path / "step", 7, TENSORS)
    into = zeros()
    read_state(tmp_path / "step", into, this_process())
    assert all(torch.equal(into[name], tensor) for name, tensor in TENSORS.items())
    assert json.loads((tmp_path / "step" / "state.json").read_text()) == {
        "format": 1,
        "step": 7,
        "sha256": file_sha256(tmp_path / "step" / "state.safetensors"),
    }


@pytest.mark.parametrize("phases", [0, 2])
def test_how_many_updates_of_the_next_step_are_done_is_kept(tmp_path, phases):
    run = RunFolder(tmp_path)
    run.save(3, {"weights": {"a": TENSORS["weights/a"]}}, this_process(), phases=phases)
    assert run.load({"weights": {"a": torch.zeros(5, 2)}}, this_process()) == (3, phases)
    assert RunFolder(tmp_path / "new").load({}, this_process()) == (0, 0)
    with safe_open(run.checkpoint(3) / "state.safetensors", "pt") as file:
        assert (file.metadata() or {}).get("phases") == (str(phases) if phases else None)


@pytest.mark.parametrize("text", ["", "-1", "1x", "1" * 7])
def test_a_number_of_updates_that_is_none_counts_as_zero(tmp_path, text):
    save_file(TENSORS, tmp_path / "state.safetensors", {"phases": text})
    assert read_state(tmp_path, zeros(), this_process()) == 0


class Sharded:
    """A tensor of five rows of which this process holds some, as FSDP2 deals them out to two."""

    shape = (5, 2)

    def __init__(self, rank: int) -> None:
        self.local = torch.zeros((3, 2)[rank], 2)
        self.placements = [SimpleNamespace(is_shard=lambda dim: dim == 0)]

    def detach(self) -> "Sharded":
        return self

    def to_local(self) -> torch.Tensor:
        return self.local


@pytest.mark.parametrize(("rank", "rows"), [(0, slice(0, 3)), (1, slice(3, 5))])
def test_every_process_reads_the_rows_that_it_holds(tmp_path, rank, rows):
    write_state(tmp_path / "step", 1, TENSORS, this_process())
    mine = Sharded(rank)
    read_state(tmp_path / "step", {"weights/a": mine}, Processes(rank, 2, CPU))
    assert torch.equal(mine.local, TENSORS["weights/a"][rows])


def test_a_process_beyond_the_last_row_reads_none():
    tensor = Sharded(0)
    tensor.shape, tensor.local = (2, 2), torch.zeros(0, 2)
    assert state_file._local_rows(tensor, Processes(2, 3, CPU)) == (tensor.local, 2)


@pytest.mark.parametrize("error", [ValueError("no room"), OSError("no room")])
def test_what_the_first_process_cannot_write_is_raised_in_all(tmp_path, monkeypatch, error):
    def refused(*_, **__):
        raise error

    gathered = []
    monkeypatch.setattr(state_file, "save_tensors", refused)
    monkeypatch.setattr(state_file, "gathered", lambda tensor: gathered.append(tensor) or tensor)
    with pytest.raises(type(error), match="no room"):
        write_state(tmp_path / "step", 1, TENSORS, this_process())
    assert len(gathered) == len(TENSORS), "every process is asked for its part of each"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Processes, "any", lambda self, flag: True)
    with pytest.raises(OSError, match="first process could not write the checkpoint of step 4"):
        write_state(tmp_path / "step", 4, TENSORS, Processes(1, 2, CPU))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"weights/a": torch.zeros(5, 3)}, r"weights/a is float32 \[5, 2\], this run has float32 \[5, 3\]"),
        ({"weights/d": torch.zeros(1)}, r"weights/d is missing, this run has float32 \[1\]"),
        ({"average/c": torch.zeros(4)}, r"average/c is bfloat16 \[4\], this run has float32 \[4\]"),
    ],
)
def test_a_checkpoint_of_other_tensors_is_refused_by_name(tmp_path, wanted, said):
    write_state(tmp_path / "step", 1, TENSORS, this_process())
    with pytest.raises(StateUnreadable, match=said):
        check_state(tmp_path / "step", 1, {**TENSORS, **wanted})
    fewer = {name: tensor for name, tensor in TENSORS.items() if name != "weights/b"}
    with pytest.raises(StateUnreadable, match=r"weights/b is float32 \[\], this run has missing"):
        check_state(tmp_path / "step", 1, fewer)


def test_a_checkpoint_of_another_format_or_step_is_refused(tmp_path):
    write_state(tmp_path / "step", 1, TENSORS, this_process())
    with pytest.raises(StateUnreadable, match="says format 1, step 1; wanted 1, 2"):
        check_state(tmp_path / "step", 2, TENSORS)
    note = tmp_path / "step" / "state.json"
    note.write_text(note.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StateUnreadable, match="says format 2, step 1; wanted 1, 1"):
        check_state(tmp_path / "step", 1, TENSORS)


def test_no_update_of_the_next_step_is_done_unless_it_is_said(tmp_path):
    write_state(tmp_path / "step", 1, TENSORS, this_process())
    assert read_state(tmp_path / "step", zeros(), this_process()) == 0


def test_a_checkpoint_without_its_note_is_damaged_and_no_older_versions(tmp_path):
    write_state(tmp_path / "step", 1, TENSORS, this_process())
    (tmp_path / "step" / ".metadata").write_bytes(b"of another program")
    check_state(tmp_path / "step", 1, TENSORS)
    (tmp_path / "step" / ".metadata").unlink()
    (tmp_path / "step" / "state.json").unlink()
    with pytest.raises(StateUnreadable, match="it is incomplete or damaged"):
        check_state(tmp_path / "step", 1, TENSORS)
    (tmp_path / "step" / "state.safetensors").unlink()
    with pytest.raises(StateUnreadable, match=r"it has no state\.safetensors"):
        check_state(tmp_path / "step", 1, TENSORS)


def test_two_checkpoints_are_kept_and_later_ones_of_another_run_beside_them(tmp_path):
    run = RunFolder(tmp_path)
    for step in (900, 1, 2, 3):
        run.save(step, {"weights": {"a": TENSORS["weights/a"]}}, this_process(), phases=0)
    assert run.saved_steps() == [2, 3, 900]
