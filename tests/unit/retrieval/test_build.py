"""Building an index: incremental, exact, atomic, bounded, and never fooled by what the folder holds."""

import os
import shutil

import pytest
import torch
from magic141.model_patches.retrieval import write
from magic141.model_patches.retrieval.build import build_index
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.retrieval.records import Row
from magic141.model_patches.retrieval.write import IndexWriter
from magic141.model_patches.store import files
from magic141.model_patches.store.disk import DiskRefused
from magic141.tests.support.tiny_index import (
    MeanColor,
    add,
    build,
    check_vectors,
    empty,
    many,
    paths,
    write_pictures,
)


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures")


def test_a_first_build_holds_every_picture_in_path_order(tmp_path, folder):
    index, report, _ = build(empty(tmp_path), folder)
    assert paths(index) == ["a/1.png", "a/2.png", "a.png", "b.png", "z/y/x.png"]
    assert (report.added, report.num_skipped) == (5, 0)
    check_vectors(index, folder)


def test_an_unchanged_folder_embeds_and_writes_nothing(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    before = {path.name: path.stat().st_mtime_ns for path in index.directory.iterdir()}
    again, report, embedder = build(ImageIndex.open(index.directory), folder)
    assert (embedder.num_embedded, report.kept) == (0, 5)
    assert {path.name: path.stat().st_mtime_ns for path in again.directory.iterdir()} == before


def test_only_what_changed_is_embedded(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    add(folder / "a/1.png", (1, 2, 3))
    add(folder / "c.png", (9, 9, 200))
    (folder / "b.png").unlink()
    os.utime(folder / "a.png", (1, 1))  # touched, same bytes
    index, report, embedder = build(index, folder)
    assert embedder.num_embedded == 2
    assert (report.added, report.changed, report.removed, report.kept) == (1, 1, 1, 3)
    assert paths(index) == ["a/1.png", "a/2.png", "a.png", "c.png", "z/y/x.png"]
    check_vectors(index, folder)


def test_left_over_files_are_removed_and_those_of_others_stay(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    others = [
        "notes.txt",
        "vectors-mine.f16",
        "._vectors-dead.f16",
        "vectors-dead (1).f16",
        "shard-mine.jsonl",
    ]
    for name in ("vectors-dead.f16", "shard-dead.safetensors", *others):
        (index.directory / name).write_bytes(b"half")
    add(folder / "c.png", (9, 9, 200))
    index, *_ = build(index, folder)
    names = {path.name for path in index.directory.iterdir()}
    assert names == {"index.sqlite", index.about.vectors, *others}


def test_an_index_stays_right_through_random_edits(tmp_path):
    root, rng = tmp_path / "pictures", torch.Generator().manual_seed(0)
    many(root, range(0, 100, 3))
    index = empty(tmp_path)
    for _ in range(12):
        index, *_ = build(index, root, batch_size=3)
        on_disk = sorted(
            (path.relative_to(root).as_posix() for path in root.rglob("*.png")),
            key=lambda path: path.split("/"),
        )
        assert paths(index) == on_disk
        check_vectors(index, root)
        assert index.about.count <= 2 * len(index)
        found = index.search(index.vectors[index.rows_at([0])[0].position].float(), k=len(index) + 5)[1]
        assert sorted(found.tolist()) == sorted(row.position for row in index.rows())
        picked = torch.randint(0, 100, (24,), generator=rng).tolist()
        for i in picked[:12]:
            (root / f"{i // 10:02}/{i:03}.png").unlink(missing_ok=True)
        many(root, picked[12:])


def test_an_interrupted_build_keeps_what_is_done_and_goes_on(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(40))
    with pytest.raises(KeyboardInterrupt):
        build(empty(tmp_path), root, MeanColor(fail_after=20), batch_size=4)
    index = ImageIndex.open(tmp_path / "index")
    assert not index.about.complete
    assert 4 <= len(index) <= 20
    check_vectors(index, root)
    kept = len(index)
    index, _, embedder = build(index, root)
    assert index.about.complete
    assert (len(index), embedder.num_embedded) == (40, 40 - kept)
    check_vectors(index, root)


def test_a_commit_waits_until_it_is_a_small_share_of_the_time(tmp_path, folder):
    now = [0.0]
    writer = IndexWriter(empty(tmp_path), clock=lambda: now[0])
    rows = [Row(f"{i}.png", "0" * 64, 1, 1, 1) for i in range(3)]

    def commit(seconds):
        """Add a row, let a time pass, and return how many rows are on disk."""
        writer.add([rows.pop()], torch.eye(4)[:1])
        now[0] += seconds
        writer.commit_if_due()
        return len(ImageIndex.open(tmp_path / "index"))

    assert commit(0) == 1
    writer._commit_took = 1.0
    assert commit(10) == 1
    assert commit(10) == 3
    writer.close()


def test_an_interrupted_update_keeps_the_old_rows_too(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(40))
    index, *_ = build(empty(tmp_path), root)
    many(root, range(40, 80))
    for i in range(10):
        add(root / f"00/new{i}.png", (i, 3, 3))
    with pytest.raises(KeyboardInterrupt):
        build(index, root, MeanColor(fail_after=12), batch_size=2)
    index = ImageIndex.open(index.directory)
    assert len(index) >= 40
    check_vectors(index, root)
    index, *_ = build(index, root)
    assert len(index) == 90
    check_vectors(index, root)


def test_a_reader_keeps_the_state_it_opened(tmp_path, folder):
    """Also while vectors are appended, and when the file it mapped is removed."""
    index, *_ = build(empty(tmp_path), folder)
    before, vectors = paths(index), index.vectors.clone()
    for turn in range(6):
        for path in list(folder.rglob("*.png")):
            add(path, (turn, 99, 7 * turn))
        build(ImageIndex.open(index.directory), folder)
    assert paths(index) == before
    assert torch.equal(index.vectors, vectors)


@pytest.mark.parametrize("refused", [".sqlite", ".f16"])
def test_a_full_disk_leaves_the_old_index_and_is_said(tmp_path, folder, monkeypatch, refused):
    index, *_ = build(empty(tmp_path), folder)
    add(folder / "c.png", (9, 9, 200))

    def full(*_args):
        raise OSError(28, "No space left on device")

    if refused == ".f16":
        monkeypatch.setattr(write.os, "fsync", full)
    else:
        monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(DiskRefused, match="disk is full"):
        build_index(index, folder, MeanColor())
    monkeypatch.undo()
    left = ImageIndex.open(index.directory)
    assert len(left) == 5
    assert not set(index.directory.glob("*.part.*"))
    index, *_ = build(left, folder)
    check_vectors(index, folder)


def test_unreadable_files_do_not_make_an_unchanged_folder_written_again(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(21))
    for i in range(3):
        (root / f"0{i}/0bad.png").write_bytes(b"x")
    index, *_ = build(empty(tmp_path), root)
    before = {path.name: path.stat().st_mtime_ns for path in index.directory.iterdir()}
    for _ in range(2):
        index, report, embedder = build(ImageIndex.open(index.directory), root)
        assert (embedder.num_embedded, report.kept, report.num_skipped) == (0, 21, 3)
    assert {path.name: path.stat().st_mtime_ns for path in index.directory.iterdir()} == before


def test_a_picture_replaced_with_the_same_size_and_time_is_noticed(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    path = folder / "a.png"
    info, data = path.stat(), path.read_bytes()
    add(path, (1, 2, 3))
    path.write_bytes(path.read_bytes().ljust(len(data), b"\0")[: len(data)])
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)
    index, report, _ = build(index, folder)
    assert report.changed + report.removed == 1


def test_bad_files_are_skipped_and_reported(tmp_path, folder):
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:40])
    (folder / "empty.jpg").touch()
    (folder / "text.webp").write_text("hello")
    index, report, _ = build(empty(tmp_path), folder)
    assert len(index) == 5
    assert sorted(path for path, _ in report.skipped) == ["broken.png", "empty.jpg", "text.webp"]
    assert "skipped broken.png" in report.text()


def test_a_picture_that_breaks_later_leaves_the_index(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    (folder / "a.png").write_bytes(b"broken")
    index, report, _ = build(index, folder)
    assert "a.png" not in paths(index)
    assert (report.removed, report.num_skipped) == (1, 1)


@pytest.mark.parametrize("make", ["nothing", "only bad files"])
def test_a_folder_without_pictures_is_refused_and_the_index_stays(tmp_path, folder, make):
    index, *_ = build(empty(tmp_path), folder)
    shutil.rmtree(folder)
    folder.mkdir()
    if make == "only bad files":
        (folder / "a.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"No picture in|can be read"):
        build_index(index, folder, MeanColor())
    assert len(ImageIndex.open(index.directory)) == 5


def test_links_that_leave_the_folder_are_refused(tmp_path, folder):
    add(tmp_path / "secret/s.png", (1, 1, 1))
    (folder / "out.png").symlink_to(tmp_path / "secret/s.png")
    (folder / "outside").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / "in.png").symlink_to(folder / "a.png")
    index, report, _ = build(empty(tmp_path), folder)
    reasons = dict(report.skipped)
    assert reasons["out.png"] == "a symbolic link that leaves the folder"
    assert reasons["outside"] == "a symbolic link that leaves the folder"
    assert reasons["loop"] == "a symbolic link to a folder"
    assert "cannot be opened" in reasons["dangling.png"]
    assert "in.png" in paths(index)
    assert len(index) == 6


def test_folders_without_end_are_left_out(tmp_path, folder):
    """Python allows no more than a thousand calls in calls."""
    deep = folder / "/".join(["a"] * 110)
    add(deep / "deep.png", (1, 1, 1))
    index, report, _ = build(empty(tmp_path), folder)
    assert len(index) == 5
    assert "more than 100 folders deep" in report.text()


def test_odd_file_names_survive(tmp_path, folder):
    names = ["雪 & snow.png", "line\u2028break.png", os.fsdecode(b"not-utf8-\xff.png")]
    for name in names:
        add(folder / "tmp.png", (7, 7, 7))
        try:
            (folder / "tmp.png").rename(folder / name)
        except OSError:
            pytest.skip("this file system allows no such names")
    index, *_ = build(empty(tmp_path), folder)
    assert set(names) <= set(paths(index))
    assert build(index, folder)[2].num_embedded == 0


def test_progress_reaches_the_end(tmp_path, folder):
    seen = []
    build(empty(tmp_path), folder, batch_size=2, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
