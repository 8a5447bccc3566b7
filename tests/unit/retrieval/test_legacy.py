"""Indexes of the first format open as today's, and nothing of them goes before the new one is whole."""

import json

import pytest
import torch
from magic141.model_patches.retrieval import legacy
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.store import files
from magic141.model_patches.store.disk import DiskRefused
from magic141.tests.support.tiny_index import build, check_vectors, empty, paths, write_pictures
from safetensors.torch import save_file


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def old(tmp_path, folder):
    """Write an index of the first format: a shard of three pictures, and two of a shard whose first was used up."""
    made, *_ = build(empty(tmp_path), folder)
    rows = [{"path": r.path, "sha256": r.sha256, "size": r.size, "mtime_ns": r.mtime_ns} for r in made.rows()]
    directory = tmp_path / "old"
    directory.mkdir()
    shards = []
    for name, start, part in (("shard-0a", 0, [0, 1, 2]), ("shard-0b", 1, [0, 3, 4])):
        lines = "".join(json.dumps(rows[i]) + "\n" for i in part)
        (directory / f"{name}.jsonl").write_text(lines, encoding="ascii")
        save_file({"vectors": made.vectors[part].contiguous()}, directory / f"{name}.safetensors")
        shards.append({"name": name, "start": start, "count": len(part) - start})
    model = {"name": made.model.name, "probe": made.model.probe}
    manifest = {"format": "magic141-image-index", "version": 1, "folder": made.folder, "model": model}
    manifest |= {"complete": True, "count": 5, "shards": shards}
    (directory / "index.json").write_text(json.dumps(manifest))
    return directory


def test_it_is_converted_without_embedding_again(old, folder):
    assert legacy.is_old(old)
    legacy.convert(old)
    assert not legacy.is_old(old)
    index = ImageIndex.open(old)
    assert paths(index) == ["a/1.png", "a/2.png", "a.png", "b.png", "z/y/x.png"]
    assert index.about.complete
    check_vectors(index, folder)
    assert {path.name for path in old.iterdir()} == {"index.sqlite", index.about.vectors}
    _, report, embedder = build(index, folder)
    assert (report.kept, embedder.num_embedded) == (5, 0)


@pytest.mark.parametrize("values", [{"complete": False}, {"complete": "yes"}])
def test_one_that_was_not_finished_is_not_complete(old, values):
    change(old, values)
    legacy.convert(old)
    assert not ImageIndex.open(old).about.complete
    assert not (old / "index.json").exists()


def test_a_full_disk_leaves_the_old_files(old, monkeypatch):
    before = {path.name for path in old.iterdir()}

    def full(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(DiskRefused):
        legacy.convert(old)
    monkeypatch.undo()
    assert before < {path.name for path in old.iterdir()}
    assert legacy.is_old(old)
    legacy.convert(old)
    assert len({path.name for path in old.iterdir()}) == 2


def change(directory, values, shard=None):
    path = directory / "index.json"
    manifest = json.loads(path.read_text())
    manifest.update(values)
    manifest["shards"][0].update(shard or {})
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("values", "shard"),
    [
        ({"folder": 3}, {}),
        ({"shards": [3]}, None),
        ({"model": []}, {}),
        ({"model": {"name": "m", "probe": [1.0]}}, {}),
        ({}, {"name": "../outside/shard-aa"}),
        ({}, {"name": ["shard-0a"]}),
        ({}, {"start": -1}),
        ({}, {"count": 0}),
        ({}, {"count": 4}),
        ({}, {"more": 1}),
    ],
)
def test_strange_values_are_damage_and_nothing_goes(old, values, shard):
    if shard is None:
        path = old / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
    else:
        change(old, values, shard)
    before = {path.name for path in old.iterdir()}
    with pytest.raises(ValueError, match="is damaged"):
        legacy.convert(old)
    assert {path.name for path in old.iterdir()} == before


@pytest.mark.parametrize(
    "damage", ["rows missing", "rows cut", "vectors missing", "vectors cut", "vectors wide"]
)
def test_damaged_shards_are_said(old, damage):
    rows, vectors = old / "shard-0a.jsonl", old / "shard-0a.safetensors"
    which = rows if damage.startswith("rows") else vectors
    if damage.endswith("missing"):
        which.unlink()
    elif damage.endswith("cut"):
        which.write_bytes(which.read_bytes()[:-9])
    else:
        save_file({"vectors": torch.ones(3, 9).half()}, vectors)
    with pytest.raises(ValueError, match="is damaged"):
        legacy.convert(old)
