"""The index on disk: incremental, exact, atomic, bounded, and never fooled by what the folder holds."""

import json
import os
import shutil

import pytest
import torch
from magic141.model_patches.retrieval import unit_length
from magic141.model_patches.store import image_index, index_build, picture_walk
from magic141.model_patches.store.image_index import ImageIndex, Model
from magic141.model_patches.store.index_build import build_index
from PIL import Image


class MeanColour:
    """Embed a picture as its mean colour, and count how often."""

    image_size = 8

    def __init__(self, fail_after=None):
        self.num_embedded, self.fail_after = 0, fail_after

    def prepare(self, image):
        return torch.frombuffer(bytearray(image.resize((8, 8)).tobytes()), dtype=torch.uint8).reshape(8, 8, 3)

    def embed_prepared(self, images):
        self.num_embedded += len(images)
        if self.fail_after is not None and self.num_embedded > self.fail_after:
            raise KeyboardInterrupt
        return torch.cat([images.float().mean((1, 2)) + 1, torch.ones(len(images), 1)], dim=1)


MODEL = Model("mean colour", [1.0, 0.0, 0.0, 0.0])


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pictures"
    for i, name in enumerate(["b.png", "a/2.png", "a/1.png", "a.png", "z/y/x.png"]):
        add(root / name, (40 * i, 255 - 40 * i, 30))
    return root


def add(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour).save(path)


def empty(tmp_path, model=MODEL):
    directory = tmp_path / "index"
    directory.mkdir(exist_ok=True)
    return ImageIndex(directory, folder="input/pictures", model=model)


def build(old, folder, embedder=None, **options):
    embedder = embedder or MeanColour()
    index, report = build_index(old, folder, embedder, **options)
    assert [row.path for row in index.rows()] == [row.path for row in ImageIndex.open(index.directory).rows()]
    return index, report, embedder


def paths(index):
    return [row.path for row in index.rows()]


def check_vectors(index, folder):
    """Compare every stored vector with that of its picture now."""
    made = torch.cat([chunk.float() for chunk in index.vectors])
    embedder = MeanColour()
    wanted = [embedder.prepare(Image.open(folder / row.path).convert("RGB")) for row in index.rows()]
    torch.testing.assert_close(
        made, unit_length(embedder.embed_prepared(torch.stack(wanted))), rtol=0, atol=1e-3
    )


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


def many(root, numbers):
    for i in numbers:
        add(root / f"{i // 10:02}/{i:03}.png", (i, 255 - i, i * 7 % 255))


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


def test_a_crash_while_writing_leaves_the_old_index(tmp_path, folder, monkeypatch):
    index, *_ = build(empty(tmp_path), folder)
    add(folder / "c.png", (9, 9, 200))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_index, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        build_index(index, folder, MeanColour())
    assert len(ImageIndex.open(index.directory)) == 5


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


def test_no_index_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run Build Image Index"):
        ImageIndex.open(tmp_path)


def test_models_are_told_apart():
    assert MODEL.same_as(Model("a half-precision copy", [0.999, 0.01, 0.0, 0.0]))
    assert not MODEL.same_as(Model("another", [0.0, 1.0, 0.0, 0.0]))
    assert not MODEL.same_as(Model("wider", [1.0, 0.0, 0.0, 0.0, 0.0]))


def test_progress_reaches_the_end(tmp_path, folder):
    seen = []
    build(empty(tmp_path), folder, batch_size=2, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)
