"""A run's folder may be damaged, full, in use or from a stranger: it costs a message, never more."""

import errno
import hashlib
import io
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store.directory_lock import DirectoryLock
from magic141.model_patches.store.disk import DiskRefused
from magic141.model_patches.training.checkpoint import RunFolder, fingerprint
from magic141.model_patches.training.old_checkpoint import OldCheckpoint, _IndexReader
from magic141.model_patches.training.parallel import this_process
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_training import TINY, train
from safetensors.torch import load_file, save_file

EACH = replace(TINY, save_every=1)
STATE, NOTE = "state.safetensors", "state.json"


class Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "executed")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return the folder of a run that was stopped after two steps, each of which is saved."""
    folder = tmp_path_factory.mktemp("stopped")
    train(EACH, folder, stop_after=2)
    return folder


@pytest.fixture
def run(stopped, tmp_path):
    """Return a copy of the stopped run for one test."""
    shutil.copytree(stopped, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def write_pickles(folder: Path, proof: Path) -> None:
    """Put pickles that execute wherever a checkpoint of any version had something to read."""
    folder.mkdir(parents=True)
    for name in (".metadata", "__0_0.distcp", "state.pt"):
        (folder / name).write_bytes(pickle.dumps(Payload(proof)))


def write_state(folder: Path, weights: dict) -> None:
    """Replace a checkpoint's tensors, and the digest with them."""
    from magic141.model_patches.store.files import file_sha256

    save_file(weights, folder / STATE)
    note = json.loads((folder / NOTE).read_text())
    (folder / NOTE).write_text(json.dumps({**note, "sha256": file_sha256(folder / STATE)}))


def test_a_checkpoint_that_would_execute_code_is_not_opened(tmp_path):
    proof = tmp_path / "proof"
    execute, arguments = Payload(proof).__reduce__()
    execute(*arguments)
    assert proof.exists()
    proof.unlink()
    run = RunFolder(tmp_path / "run")
    write_pickles(run.checkpoint(1), proof)
    with pytest.raises(
        ValueError, match=r"older version, .* would execute code, so it was not opened: .*another run name"
    ):
        train(TINY, run.path)
    assert not proof.exists()
    assert (run.checkpoint(1) / ".metadata").exists(), "nothing of an artist's is deleted"


def write_old_checkpoint(folder: Path, weights: dict) -> None:
    """Write a checkpoint as older versions did."""
    from torch.distributed import checkpoint

    tensors = {name.replace("/", ".", 1): weight for name, weight in weights.items()}
    checkpoint.save(tensors, checkpoint_id=folder, no_dist=True)


def test_a_run_of_an_older_version_goes_on(run):
    whole, _ = train(EACH, run.path.with_name("whole"))
    for step in run.saved_steps():
        weights = load_file(run.checkpoint(step) / STATE)
        shutil.rmtree(run.checkpoint(step))
        write_old_checkpoint(run.checkpoint(step), weights)
    model, reports = train(EACH, run.path)
    assert [report.step for report in reports] == [3]
    assert model.notes == ()
    assert all(torch.equal(model.weights[name], weight) for name, weight in whole.weights.items())
    assert sorted(file.name for file in run.checkpoint(2).iterdir()) == [NOTE, STATE]


def test_an_older_versions_checkpoint_that_is_damaged_is_passed_over(run):
    weights = load_file(run.checkpoint(2) / STATE)
    shutil.rmtree(run.checkpoint(2))
    write_old_checkpoint(run.checkpoint(2), weights)
    (pieces,) = run.checkpoint(2).glob("*.distcp")
    pieces.write_bytes(pieces.read_bytes()[:2000])
    model, reports = train(EACH, run.path)
    assert reports[0].step == 2
    assert "step-000002 was not opened: it was saved by an older version, and " in model.notes[0]


def test_a_call_in_the_index_of_an_older_version_is_not_made(run, tmp_path):
    proof = tmp_path / "proof"
    weights = load_file(run.checkpoint(2) / STATE)
    shutil.rmtree(run.checkpoint(2))
    write_old_checkpoint(run.checkpoint(2), weights)
    index = run.checkpoint(2) / ".metadata"
    call, content = pickle.dumps(Payload(proof)), index.read_bytes()
    index.write_bytes(
        call[:-1] + b"0" + content[2:]
    )  # the call, its result dropped, then the index as it was
    model, _ = train(EACH, run.path)
    assert "step-000002 was not opened: it was saved by an older version, " in model.notes[0]
    assert not proof.exists()


def test_an_object_in_a_checkpoint_of_an_older_version_is_not_opened(run, tmp_path):
    """torch unpickles such entries without a question when it reads the format itself."""
    proof = tmp_path / "proof"
    weights = load_file(run.checkpoint(2) / STATE)
    shutil.rmtree(run.checkpoint(2))
    write_old_checkpoint(run.checkpoint(2), {**weights, "average/x": Payload(proof)})
    model, _ = train(EACH, run.path)
    assert "BytesStorageMetadata has no place in it" in model.notes[0]
    assert not proof.exists()


def test_pickles_in_place_of_tensors_and_notes_are_not_opened(run, tmp_path):
    proof = tmp_path / "proof"
    write_pickles(run.checkpoint(9), proof)
    for name in (STATE, NOTE):
        (run.checkpoint(2) / name).write_bytes(pickle.dumps(Payload(proof)))
    torch.save({"x": Payload(proof)}, run.checkpoint(1) / STATE)
    with pytest.raises(ValueError, match=r"step-000009 .*step-000002 .*step-000001"):
        train(EACH, run.path)
    assert not proof.exists()


def damage(kind: str, folder: Path) -> None:
    """Spoil a checkpoint as disks, kills and strangers do."""
    state, note = folder / STATE, folder / NOTE
    content = bytearray(state.read_bytes())
    said = json.loads(note.read_text())
    if kind == "flipped":
        content[-5] ^= 16
        state.write_bytes(content)
    elif kind == "cut":
        state.write_bytes(content[:-100])
    elif kind in ("state missing", "note missing"):
        (state if kind == "state missing" else note).unlink()
    elif kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif kind == "of another step":
        note.write_text(json.dumps({**said, "step": 1}))
    elif kind == "too deep":
        note.write_text("[" * 100_000)
    elif kind == "a list":
        note.write_text("[]")
    else:
        weights = load_file(state)
        name = next(iter(weights))
        changed = {"other shape": weights[name][None], "other type": weights[name].half()}
        write_state(folder, {**weights, name: changed[kind]} if kind in changed else {"x": weights[name]})


KINDS = ("flipped", "cut", "state missing", "note missing", "empty", "of another step", "too deep", "a list")


@pytest.mark.parametrize("kind", [*KINDS, "other shape", "other type", "other names"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(run, kind, caplog):
    whole, _ = train(EACH, run.path.with_name("whole"))
    damage(kind, run.checkpoint(2))
    model, reports = train(EACH, run.path)
    assert [report.step for report in reports] == [2, 3]
    assert "Checkpoint step-000002 was not opened: " in model.notes[0]
    assert model.notes[0] in caplog.text
    assert all(torch.equal(model.weights[name], weight) for name, weight in whole.weights.items())
    assert train(EACH, run.path)[0].notes == (), "what was done again took the damaged one's place"


def test_where_every_checkpoint_is_damaged_nothing_starts_over_in_silence(run):
    for step in (1, 2):
        damage("cut", run.checkpoint(step))
    with pytest.raises(
        ValueError, match=r"No checkpoint in .* can be read: .*000002.*000001.*another run name"
    ):
        train(EACH, run.path)
    assert run.saved_steps() == [1, 2]


def test_a_damaged_checkpoint_does_not_push_out_good_ones(run):
    damage("cut", run.checkpoint(2))
    shutil.copytree(run.checkpoint(2), run.checkpoint(900))
    shutil.copytree(run.checkpoint(2), run.checkpoint(901))
    train(EACH, run.path)
    assert run.saved_steps() == [2, 3, 900, 901]
    assert train(EACH, run.path)[0].step == 3


def test_a_disk_that_fills_up_under_a_checkpoint_costs_a_message(run, small_files):
    config = replace(EACH, train="full")
    with pytest.raises((OSError, ValueError), match=r"The disk is full: .*checkpoints"):
        train(config, run.path.with_name("large"))
    assert not list(run.path.with_name("large").rglob("*.part*"))


def test_what_was_saved_before_the_disk_filled_up_is_gone_on_from(run, request):
    kept = {file: file.read_bytes() for file in run.checkpoints.rglob("*") if file.is_file()}
    request.getfixturevalue("small_files")
    with pytest.raises((OSError, ValueError), match="The disk is full"):
        train(EACH, run.path)
    assert {file: file.read_bytes() for file in run.checkpoints.rglob("*") if file.is_file()} == kept


def test_a_run_that_is_in_use_is_left_alone(run):
    lock = DirectoryLock(run.path)
    lock.acquire()
    before = run.config_file.stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"is in use by another run \(process \d+\)"):
        train(EACH, run.path)
    assert run.config_file.stat().st_mtime_ns == before
    lock.release()
    assert train(EACH, run.path)[0].step == 3


@pytest.mark.parametrize("content", ["", "[]", '{"seed": ', "[" * 100_000, "\udcff"])
def test_a_damaged_configuration_is_said_with_what_to_do(run, content):
    run.config_file.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(
        ValueError, match=r"config\.json is damaged \(.*another run name; or, .* delete that file"
    ):
        train(EACH, run.path)
    run.config_file.unlink()
    assert train(EACH, run.path)[0].step == 3


def test_damaged_lines_of_the_log_are_passed_over(run):
    whole = run.read_log()
    damaged = [
        "[]",
        "7",
        '{"step": "1"}',
        '{"step": true}',
        '{"loss": 1.0}',
        '{"step": 2, "motion": "x"}',
        "{}}",
    ]
    damaged += ['{"step": 1, "loss": NaN}', '{"step": 1, "loss": 1e999}', "[" * 100_000, '{"step": 2, "lo']
    run.log_file.write_text(
        "\n".join([json.dumps(whole[0]), *damaged, "\udcff", json.dumps(whole[1])]),
        encoding="utf-8",
        errors="surrogateescape",
    )
    assert run.read_log() == whole
    train(EACH, run.path)
    assert [row["step"] for row in run.read_log()] == [1, 2, 3]
    assert len(run.log_file.read_text().splitlines()) == 3


def test_what_a_killed_run_left_half_written_goes(run):
    half = run.checkpoints / "step-000009.part"
    half.mkdir()
    (half / STATE).write_bytes(b"x")
    (run.path / "config.part.json").write_text("{")
    train(EACH, run.path, weights=tiny_dit())
    assert not list(run.path.rglob("*.part*"))


def test_a_checkpoint_on_disk_is_what_every_version_reads(run):
    folder = run.checkpoint(2)
    assert folder.name == "step-000002"
    assert {path.name for path in folder.iterdir()} == {STATE, NOTE}
    note = json.loads((folder / NOTE).read_text())
    assert set(note) == {"format", "step", "sha256"}
    assert (note["format"], note["step"]) == (1, 2)
    groups = {name.partition("/")[0] for name in load_file(folder / STATE)}
    assert groups == {"weights.student", "weights.fake", "average", "optimizer.student", "optimizer.fake"}
    assert {path.name for path in run.path.iterdir()} >= {"config.json", "log.jsonl", "checkpoints"}


def test_a_model_is_told_by_names_shapes_and_some_values_so_that_old_runs_go_on():
    weights = {"b": torch.arange(200.0).reshape(2, 100), "a": torch.tensor([1.5, -2.0]).bfloat16()}
    digest = hashlib.sha256(b"a(2,)" + torch.tensor([1.5, -2.0]).numpy().tobytes())
    digest.update(b"b(2, 100)" + torch.arange(0.0, 200.0, 3).numpy().tobytes())
    assert fingerprint(weights) == digest.hexdigest()[:16]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("other type", "it is torch.float16, wanted torch.float32"),
        ("missing", "has 0 values, wanted "),
        ("other shape", "is damaged"),
    ],
)
def test_an_older_versions_checkpoint_of_another_run_is_passed_over(run, kind, said):
    weights = load_file(run.checkpoint(2) / STATE)
    name = next(name for name in weights if name.startswith("weights.student/"))
    if kind == "missing":
        del weights[name]
    else:
        weights[name] = weights[name].half() if kind == "other type" else torch.zeros(900, 900)
    shutil.rmtree(run.checkpoint(2))
    write_old_checkpoint(run.checkpoint(2), weights)
    with pytest.raises(ValueError, match=said):
        OldCheckpoint(run.checkpoint(2)).tensor(
            name.replace("/", "."), load_file(run.checkpoint(1) / STATE)[name]
        )


KNOWN_CLASSES = [
    ("pathlib", "PosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
]


def test_an_index_of_any_machine_is_read_as_plain_records():
    reader = _IndexReader(io.BytesIO())
    for module, name in KNOWN_CLASSES:
        record = reader.find_class(module, name)("anything")
        record.__setstate__({"a": 1})
        assert record.fields == {"a": 1}
    assert reader.find_class("torch", "Size") is tuple
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"):
        assert reader.find_class("torch", name) == name
    for module, name in (("torch", "load"), ("os", "system"), ("pathlib", "Path"), ("float32", "torch")):
        with pytest.raises(pickle.UnpicklingError, match=f"{module}.{name} has no place in it"):
            reader.find_class(module, name)


def test_a_piece_of_an_older_versions_checkpoint_is_tensors_inside_its_folder(run, tmp_path):
    folder, proof = tmp_path / "old", tmp_path / "proof"
    write_old_checkpoint(folder, {"a/b": torch.ones(2)})
    old = OldCheckpoint(folder)
    torch.save(Payload(proof), folder / "piece")
    place = {"relative_path": "piece", "offset": 0, "length": (folder / "piece").stat().st_size}
    with pytest.raises(pickle.UnpicklingError):
        old._piece(place)
    assert not proof.exists()
    torch.save(torch.ones(2), folder / "piece")
    place["length"] = (folder / "piece").stat().st_size
    assert torch.equal(old._piece(place), torch.ones(2))
    for changes in ({"relative_path": "../old/piece"}, {"transform_descriptors": ["zip"]}):
        with pytest.raises(ValueError, match="it is said to lie in"):
            old._piece(place | changes)


def test_the_largest_number_is_a_line_of_the_log(run):
    run.log_file.write_text('{"step": 1, "loss": 1.7976931348623157e308}\n{"step": 2, "loss": -1e400}\n')
    assert [row["step"] for row in run.read_log()] == [1]


@pytest.mark.parametrize("refusing", ["mkdir", "open"])
def test_a_full_disk_is_said_with_the_folder_of_the_run(tmp_path, monkeypatch, refusing):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    folder = RunFolder(tmp_path / "run")
    if refusing == "open":
        folder.path.mkdir()
    monkeypatch.setattr(Path, refusing, full)
    with pytest.raises(DiskRefused, match=f"The disk is full: {folder.path}"):
        folder.log(step=1) if refusing == "open" else folder.open(TINY, this_process())
    if refusing == "mkdir":
        with (
            pytest.raises(DiskRefused, match=f"The disk is full: {folder.path}"),
            folder.hold(this_process()),
        ):
            pass
