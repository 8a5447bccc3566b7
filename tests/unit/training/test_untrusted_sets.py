"""Training sets that came from elsewhere: checked before use, nothing outside is touched."""

import json
import math
import os
from pathlib import Path

import pytest
from magic141.model_patches.encoders.folders import check_clip_folder
from magic141.model_patches.retrieval.records import Row
from magic141.model_patches.store.fields import checked
from magic141.model_patches.training.dataset import TrainingSet
from magic141.model_patches.training.shards import ShardStore, locked_directory
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tests.unit.training.test_dataset import KA, NULL, V1, make_set


@pytest.fixture
def training_set(tmp_path) -> TrainingSet:
    return make_set(tmp_path / "set")


def edit(path: Path, change) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("content", ["[]", "null", "[" * 100_000, "\xff"])
def test_manifests_that_are_none_are_damaged(training_set, content):
    (training_set.directory / "set.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="is damaged"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize("kind", ["pipe", "loop"])
def test_manifests_that_are_no_files_are_damaged(training_set, kind):
    path = training_set.directory / "set.json"
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(path.name)
    with pytest.raises(ValueError, match="is damaged"):
        TrainingSet.open(training_set.directory)


def test_files_of_others_in_a_set_stay(training_set):
    names = ["shard-mine.safetensors", "._shard-aa.safetensors", "shard-aa (1).jsonl", "notes.jsonl"]
    (training_set.directory / "videos" / f"{'e' * 32}.safetensors").touch()
    for name in names:
        (training_set.directory / "videos" / name).with_suffix(".safetensors").touch()
    training_set.commit()
    left = {path.stem for path in (training_set.directory / "videos").iterdir()}
    assert {Path(name).stem for name in names} < left
    assert "e" * 32 not in left


VIDEO_FAULTS = [
    {"key": "../../outside"},
    {"key": 3},
    {"caption_keys": ["../outside", NULL]},
    {"caption_keys": [NULL]},
    {"caption_keys": "ab"},
    {"captions": [], "caption_keys": []},
    {"path": "../x.mp4"},
    {"num_windows": 0},
    {"num_windows": 2**62},
    {"num_windows": True},
    {"source_height": 0},
    {"size": None},
]


@pytest.mark.parametrize("change", VIDEO_FAULTS)
def test_a_set_with_a_strange_video_is_damaged(training_set, change):
    edit(training_set.directory / "set.json", lambda found: found["videos"][0].update(change))
    with pytest.raises(ValueError, match="The training set 'set' is damaged"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize(
    "change",
    [
        {"null_key": "../x"},
        {"folder": None},
        {"complete": 1},
        {"skipped": [[1, 2]]},
        {"skipped": 1},
        {"videos": {"a": 1}},
        {"checksums": []},
        {"checksums": {"videos/x.safetensors": "short"}},
        {"version": "2"},
    ],
)
def test_a_set_with_strange_values_is_damaged(training_set, change):
    edit(training_set.directory / "set.json", lambda found: found.update(change))
    with pytest.raises(ValueError, match="The training set 'set' is damaged"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"fps": math.inf}, {"fps": 0}, {"num_frames": "5"}, {"vae": 1}]
)
def test_a_set_with_strange_settings_is_damaged(training_set, change):
    edit(training_set.directory / "set.json", lambda found: found["settings"].update(change))
    with pytest.raises(ValueError, match="The training set 'set' is damaged"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize("room", ["videos", "captions"])
def test_a_room_of_a_set_that_leads_elsewhere_is_refused(training_set, tmp_path, room):
    inside, outside = training_set.directory / room, tmp_path / "loras"
    inside.rename(outside)
    (outside / f"{'e' * 32}.safetensors").write_bytes(b"someone's")
    inside.symlink_to(outside)
    before = sorted(outside.iterdir())
    with (
        pytest.raises(ValueError, match=f"{room} is not a folder inside"),
        locked_directory(training_set.directory),
    ):
        pytest.fail("the folder was opened")
    assert sorted(outside.iterdir()) == before
    with pytest.raises(ValueError, match=r"lacks .*leads out"):
        training_set.load_video(training_set.videos[0]) if room == "videos" else training_set.load_caption(KA)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_shard_that_is_no_file_is_said(training_set, kind):
    path = training_set.directory / "videos" / f"{V1}.safetensors"
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(ValueError, match="lacks videos"):
        training_set.load_video(training_set.videos[0])
    assert ShardStore(training_set.directory).video_facts(V1) is None


def test_fields_are_checked_by_name():
    good = {"path": "a", "sha256": "b", "size": 1, "mtime_ns": -1, "ctime_ns": 0, "position": 2}
    assert checked(Row, good) == Row(**good)
    with pytest.raises(
        ValueError, match="Row needs the fields path, sha256, size, mtime_ns, ctime_ns, position"
    ):
        checked(Row, {"path": "a"})
    with pytest.raises(ValueError, match=r"size of Row is .1\.5."):
        checked(Row, good | {"size": 1.5})


@pytest.mark.parametrize("shard", ["../x.safetensors", "/x.safetensors", 3, None])
def test_weights_outside_a_model_folder_are_not_read(tmp_path, shard):
    folder = write_clip_folder(tmp_path / "my_clip")
    (folder / "model.safetensors").rename(tmp_path / "x.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ValueError, match=r"my_clip/model\.safetensors\.index\.json is no index"):
        check_clip_folder(folder)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({"width": 1, "height": 1, "num_frames": 1, "fps": 0.5}, True),
        ({"width": 0}, False),
        ({"height": 0}, False),
        ({"num_frames": 0}, False),
        ({"fps": 0.0}, False),
        ({"fps": -1.0}, False),
    ],
)
def test_the_least_sizes_of_a_set_are_taken_and_less_is_damage(training_set, changes, good):
    edit(training_set.directory / "set.json", lambda found: found["settings"].update(changes))
    if good:
        assert TrainingSet.open(training_set.directory).settings.fps == 0.5
        return
    with pytest.raises(ValueError, match="is damaged"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize(("windows", "good"), [(2_000_000, True), (2_000_001, False)])
def test_a_set_has_a_most_of_windows(training_set, windows, good):
    def change(found) -> None:
        found["videos"][0]["num_windows"] = windows - 1
        found["videos"][1].update(num_windows=1, source_width=1, source_height=1)

    edit(training_set.directory / "set.json", change)
    if good:
        assert TrainingSet.open(training_set.directory).videos[0].num_windows == windows - 1
        return
    with pytest.raises(ValueError, match="it has more than 2000000 windows"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize("checksum", ["0" * 63, "A" * 64, "0" * 65, 3, None])
def test_a_checksum_that_is_none_is_damage(training_set, checksum):
    edit(training_set.directory / "set.json", lambda found: found["checksums"].update({"videos/x": checksum}))
    with pytest.raises(ValueError, match="the checksum of videos/x is"):
        TrainingSet.open(training_set.directory)


@pytest.mark.parametrize(
    "changes", [{"folder": 3}, {"complete": 1}, {"skipped": [["a", 3]]}, {"null_key": "0" * 31}]
)
def test_values_of_another_type_are_damage(training_set, changes):
    edit(training_set.directory / "set.json", lambda found: found.update(changes))
    with pytest.raises(ValueError, match="is damaged"):
        TrainingSet.open(training_set.directory)
