"""The index on disk: rows and vectors by position, other models told apart, damage and foul play noticed."""

import json
import os
import sqlite3
from contextlib import closing

import pytest
import torch
from magic141.model_patches.retrieval.index import DATABASE, ImageIndex
from magic141.model_patches.retrieval.records import Model
from magic141.tests.support.tiny_index import MODEL, add, build, empty, write_pictures


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def index(tmp_path, folder):
    return build(empty(tmp_path), folder)[0]


def change(index, statement, *values):
    """Run a statement on the index on disk, as anyone could."""
    with closing(sqlite3.connect(index.directory / DATABASE)) as database, database:
        database.execute(statement, values)


def test_rows_and_vectors_are_found_by_position(index):
    assert [row.path for row in index.rows_at([4, 0, 2])] == ["z/y/x.png", "a/1.png", "a.png"]
    assert torch.equal(index.vectors[[4, 0, 2]], index.vectors[[4, 0, 2]])
    scores, positions = index.search(index.vectors[3].float(), k=2)
    assert positions[0] == 3
    assert scores[0] == pytest.approx(1, abs=1e-3)


def test_no_index_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run Build Image Index"):
        ImageIndex.open(tmp_path)


def test_models_are_told_apart():
    assert MODEL.same_as(Model("a half-precision copy", [0.999, 0.01, 0.0, 0.0]))
    assert not MODEL.same_as(Model("another", [0.0, 1.0, 0.0, 0.0]))
    assert not MODEL.same_as(Model("wider", [1.0, 0.0, 0.0, 0.0, 0.0]))


def opens_as_damaged(index):
    with pytest.raises(ValueError, match="The image index 'index' is damaged"):
        ImageIndex.open(index.directory)


@pytest.mark.parametrize(
    "values",
    [
        {"version": 99},
        {"version": 99, "new": 1},
        {"folder": 3},
        {"complete": "yes"},
        {"vectors": "../outside.f16"},
        {"vectors": "/etc/passwd"},
        {"vectors": "vectors-00.f16"},
        {"count": -1},
        {"count": 4},
        {"count": 6},
        {"count": True},
        {"count": 10**30},
        {"crc32": 1},
        {"probe": [1.0]},
        {"probe": [float("nan"), 0, 0, 0]},
        {"model_name": []},
    ],
)
def test_strange_values_are_damage(index, values):
    about = json.loads(index.about.to_json()) | values
    change(index, "UPDATE about SET value = ?", json.dumps(about))
    opens_as_damaged(index)


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000, ""])
def test_what_is_no_description_is_damage(index, text):
    change(index, "UPDATE about SET value = ?", text)
    opens_as_damaged(index)


@pytest.mark.parametrize("content", [b"", b"[]", b"SQLite format 3\0" + b"\xff" * 4096, b"\xff" * 100_000])
def test_what_is_no_database_is_damage(index, content):
    (index.directory / DATABASE).write_bytes(content)
    opens_as_damaged(index)


def test_a_database_cut_short_is_damage(index):
    path = index.directory / DATABASE
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(ValueError, match="is damaged"):
        list(ImageIndex.open(index.directory).rows())


@pytest.mark.parametrize("kind", ["pipe", "loop", "folder"])
@pytest.mark.parametrize("which", ["database", "vectors"])
def test_what_is_no_file_is_damage(index, kind, which):
    path = index.directory / (DATABASE if which == "database" else index.about.vectors)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name)
    opens_as_damaged(index)


def test_a_link_out_of_the_index_is_damage(index, tmp_path):
    path = index.directory / index.about.vectors
    path.rename(tmp_path / path.name)
    path.symlink_to(tmp_path / path.name)
    opens_as_damaged(index)


def test_every_flipped_bit_of_the_vectors_is_noticed(index):
    path = index.directory / index.about.vectors
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        os.utime(path, ns=(place, place))
        opens_as_damaged(index)


@pytest.mark.parametrize("cut", [1, 8])
def test_vectors_cut_short_are_damage(index, cut):
    path = index.directory / index.about.vectors
    path.write_bytes(path.read_bytes()[:-cut])
    opens_as_damaged(index)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pictures SET path = CAST('../../secret.png' AS BLOB) WHERE position = 0",
        "UPDATE pictures SET path = 'text' WHERE position = 0",
        "UPDATE pictures SET sha256 = '0' WHERE position = 0",
        "UPDATE pictures SET mtime_ns = 'soon' WHERE position = 0",
        "UPDATE pictures SET position = position + 10",
        "DELETE FROM pictures WHERE position = 0",
        "DELETE FROM pictures",
    ],
)
def test_a_changed_row_is_damage(index, statement):
    change(index, statement)
    with pytest.raises(ValueError, match="is damaged"):
        ImageIndex.open(index.directory).rows_at([0])


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER DELETE ON about BEGIN DELETE FROM pictures; END",
        "CREATE VIEW v AS SELECT * FROM pictures",
        "CREATE TABLE more (x)",
        "CREATE INDEX i ON pictures (size)",
    ],
)
def test_a_database_with_more_in_it_is_damage(index, statement):
    change(index, statement)
    opens_as_damaged(index)


def test_a_journal_that_others_put_beside_it_is_not_obeyed(index, folder):
    """SQLite's own would delete the file that a hot journal names at its end."""
    journal = index.directory / f"{DATABASE}-journal"
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    add(folder / "c.png", (9, 9, 200))
    build(ImageIndex.open(index.directory), folder)
    assert journal.exists()
    assert len(ImageIndex.open(index.directory)) == 6
