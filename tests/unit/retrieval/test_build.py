"""Building an index: incremental, exact, atomic, bounded, and never fooled by what the folder holds."""

import os
import shutil

import pytest
import torch
from magic141.model_patches.retrieval import build as index_build
from magic141.model_patches.retrieval.build import build_index
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.store import files
from magic141.model_patches.store import walk as picture_walk
from magic141.model_patches.store.files import DiskRefused
from magic141.tests.support.tiny_index import (
    MeanColour,
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


def test_left_over_files_are_removed_and_strangers_kept(tmp_path, folder):
    index, *_ = build(empty(tmp_path), folder)
    (index.directory / "shard-dead.safetensors").write_bytes(b"half")
    (index.directory / "notes.txt").write_text("mine")
    add(folder / "c.png", (9, 9, 200))
    index, *_ = build(index, folder)
    names = {path.name for path in index.directory.iterdir()}
    assert "shard-dead.safetensors" not in names
    assert "notes.txt" in names
    assert len(names) == 4  # the manifest, one shard in two files, the notes


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(index_build, "ROWS_PER_SHARD", 8)
    monkeypatch.setattr(index_build, "MIN_ROWS_PER_SHARD", 3)


@pytest.mark.usefixtures("small_shards")
def test_many_shards_stay_right_through_random_edits(tmp_path):
    root, rng = tmp_path / "pictures", torch.Generator().manual_seed(0)
    many(root, range(0, 100, 3))
    index = empty(tmp_path)
    for _ in range(8):
        index, *_ = build(index, root, batch_size=3)
        on_disk = sorted(
            (path.relative_to(root).as_posix() for path in root.rglob("*.png")), key=picture_walk.path_order
        )
        assert paths(index) == on_disk
        check_vectors(index, root)
        picked = torch.randint(0, 100, (12,), generator=rng).tolist()
        for i in picked[:6]:
            (root / f"{i // 10:02}/{i:03}.png").unlink(missing_ok=True)
        many(root, picked[6:])


@pytest.mark.usefixtures("small_shards")
def test_untouched_shards_are_kept_as_they_are(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(40))
    index, *_ = build(empty(tmp_path), root)
    before = {shard.name for shard in index.shards}
    add(root / "00/005.png", (200, 1, 1))
    index, _, embedder = build(index, root)
    assert embedder.num_embedded == 1
    assert len({shard.name for shard in index.shards} & before) == len(before) - 1


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_build_keeps_what_is_done_and_goes_on(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(40))
    with pytest.raises(KeyboardInterrupt):
        build(empty(tmp_path), root, MeanColour(fail_after=20), batch_size=4)
    index = ImageIndex.open(tmp_path / "index")
    assert not index.complete
    assert len(index) == 16
    check_vectors(index, root)
    index, _, embedder = build(index, root)
    assert index.complete
    assert (len(index), embedder.num_embedded) == (40, 24)
    check_vectors(index, root)


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_update_keeps_the_old_rows_too(tmp_path):
    root = tmp_path / "pictures"
    many(root, range(40))
    index, *_ = build(empty(tmp_path), root)
    many(root, range(40, 80))
    for i in range(10):
        add(root / f"00/new{i}.png", (i, 3, 3))
    with pytest.raises(KeyboardInterrupt):
        build(index, root, MeanColour(fail_after=12), batch_size=2)
    index = ImageIndex.open(index.directory)
    assert len(index) >= 40
    check_vectors(index, root)
    index, *_ = build(index, root)
    assert len(index) == 90
    check_vectors(index, root)


def test_a_full_disk_leaves_the_old_index_and_is_said(tmp_path, folder, monkeypatch):
    index, *_ = build(empty(tmp_path), folder)
    before = sorted(path.name for path in index.directory.iterdir())
    add(folder / "c.png", (9, 9, 200))

    def full(path):
        if path.suffix == ".safetensors":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_flush", full)
    with pytest.raises(DiskRefused, match="disk is full"):
        build_index(index, folder, MeanColour())
    assert len(ImageIndex.open(index.directory)) == 5
    assert not set(index.directory.glob("*.part.*"))
    assert set(before) <= {path.name for path in index.directory.iterdir()}


@pytest.mark.usefixtures("small_shards")
def test_a_shard_of_which_every_picture_changed_does_not_take_the_next_ones_away(tmp_path):
    """Committing it removes its old files while the vectors of the later shards are still wanted."""
    root = tmp_path / "pictures"
    many(root, range(40))
    index, *_ = build(empty(tmp_path), root)
    for i in (*range(8), 35):
        add(root / f"{i // 10:02}/{i:03}.png", (i, 77, 99))
    index, report, _ = build(ImageIndex.open(index.directory), root)
    assert (report.changed, report.kept) == (9, 31)
    check_vectors(index, root)


@pytest.mark.usefixtures("small_shards")
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
        build_index(index, folder, MeanColour())
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
