"""The index on disk: rows and vectors by number, other models and damage told."""

import json

import pytest
import torch
from magic141.model_patches.retrieval.index import ImageIndex, Model
from magic141.tests.support.tiny_index import MODEL, build, empty, write_pictures


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


def test_rows_and_vectors_are_found_by_number(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    assert [row.path for row in index.rows_at([4, 0, 2])] == ["z/y/x.png", "a/1.png", "a.png"]
    everything = torch.cat(list(index.vectors))
    assert torch.equal(index.vectors_at([4, 0, 2]), everything[[4, 0, 2]])
    scores, positions = index.search(everything[3].float(), k=2)
    assert positions[0] == 3
    assert scores[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("damage", ["json", "version", "shard", "rows", "truncated"])
def test_damage_is_said(tmp_path, folder, damage):
    index, *_ = build(empty(tmp_path), folder)
    manifest, shard = index.directory / "index.json", index.shards[0].name
    if damage == "json":
        manifest.write_text("{")
    elif damage == "version":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    elif damage == "shard":
        (index.directory / f"{shard}.safetensors").unlink()
    elif damage == "rows":
        (index.directory / f"{shard}.jsonl").unlink()
    else:
        path = index.directory / f"{shard}.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is damaged"):
        ImageIndex.open(index.directory)


def test_a_list_of_pictures_cut_short_is_said(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    rows = index.directory / f"{index.shards[0].name}.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    for text in ("".join(lines[:2]), "".join(lines)[:-9]):
        rows.write_text(text)
        with pytest.raises(ValueError, match="is damaged"):
            ImageIndex.open(index.directory).rows_at([4])


def test_no_index_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run Build Image Index"):
        ImageIndex.open(tmp_path)


def test_models_are_told_apart():
    assert MODEL.same_as(Model("a half-precision copy", [0.999, 0.01, 0.0, 0.0]))
    assert not MODEL.same_as(Model("another", [0.0, 1.0, 0.0, 0.0]))
    assert not MODEL.same_as(Model("wider", [1.0, 0.0, 0.0, 0.0, 0.0]))
