"""A folder of captioned videos: what is found, what is refused in plain words, and the shards on disk."""

import errno
import hashlib
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from magic141.model_patches.store.disk import DiskRefused
from magic141.model_patches.training import dataset, shards
from magic141.model_patches.training.dataset import SetCut, SetSettings, SetVideo, TrainingSet
from magic141.model_patches.training.dataset_report import set_report
from magic141.model_patches.training.shards import (
    ShardFacts,
    ShardStore,
    compact,
    frames_seen,
    locked_directory,
)
from magic141.model_patches.training.source import TEXT_TO_VIDEO, VideoFolderSource
from magic141.model_patches.training.videos import (
    VideoUnusable,
    find_videos,
    is_video_name,
    read_windows,
    skipped_lines,
)
from magic141.tests.support.tiny_videos import write_captioned, write_sound, write_video
from safetensors.torch import load_file, save_file

SETTINGS = SetSettings(32, 32, 13, 24.0, 0, True, "vae", "encoders")
PLAN = replace(SETTINGS, num_frames=5)


def nothing() -> None:
    pass


def found(folder: Path):
    skipped = []
    videos = find_videos(folder, "input/videos", skipped)
    return {video.file.path: video.captions for video in videos}, dict(skipped)


def windows(path: Path, plan: SetCut = PLAN) -> list[torch.Tensor]:
    return list(read_windows(path, plan))


def test_captions_beside_the_videos(tmp_path):
    write_captioned(tmp_path / "a.mp4", "a red\n  ball ")
    write_captioned(tmp_path / "more/b.mp4", "a blue ball")
    write_video(tmp_path / "c.mp4")
    videos, skipped = found(tmp_path)
    assert videos == {"a.mp4": ("a red ball",), "more/b.mp4": ("a blue ball",)}
    assert "has no caption: neither c.txt" in skipped["c.mp4"]


def test_captions_in_one_jsonl(tmp_path):
    for name in ("a", "b", "c"):
        write_video(tmp_path / f"{name}.mp4")
    (tmp_path / "c.txt").write_text("from the text file")
    lines = [
        {"video": "a.mp4", "caption": "one"},
        {"video": "a.mp4", "caption": "two"},
        {"video": "gone.mp4", "caption": "x"},
        {"video": "b.mp4", "caption": " "},
        {"video": "b.mp4", "caption": "look <image>"},
        {"file": "b.mp4"},
    ]
    text = "\n".join([*map(json.dumps, lines), "not json", '{"video": "b.mp4", "caption": "right"}'])
    (tmp_path / "captions.jsonl").write_text(text)
    videos, skipped = found(tmp_path)
    assert videos == {"a.mp4": ("one", "two"), "b.mp4": ("right",), "c.mp4": ("from the text file",)}
    assert "no video 'gone.mp4'" in skipped["captions.jsonl line 3"]
    assert skipped["captions.jsonl line 4"] == "the caption is empty"
    assert (
        "The caption contains '<image>', which the encoders read as a control token"
        in skipped["captions.jsonl line 5"]
    )
    assert all("not of the form" in skipped[f"captions.jsonl line {n}"] for n in (6, 7))


def test_a_line_separator_within_a_caption_cuts_no_line(tmp_path):
    write_video(tmp_path / "a.mp4")
    lines = [{"video": "a.mp4", "caption": f"one{mark}two"} for mark in "\u2028\u2029\x85"]
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "captions.jsonl").write_bytes(text.encode())
    assert found(tmp_path) == ({"a.mp4": ("one two",) * 3}, {})


@pytest.mark.parametrize(("on_disk", "in_list"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_of_another_system_are_the_same_name(tmp_path, on_disk, in_list):
    listed, beside = (unicodedata.normalize(on_disk, name) for name in ("café", "été"))
    write_video(tmp_path / f"{listed}.mp4")
    write_video(tmp_path / f"{beside}.mp4")
    line = {"video": unicodedata.normalize(in_list, "café.mp4"), "caption": "a cup"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line))
    (tmp_path / f"{unicodedata.normalize(in_list, beside)}.txt").write_text("the sun")
    assert found(tmp_path) == ({f"{listed}.mp4": ("a cup",), f"{beside}.mp4": ("the sun",)}, {})


def test_a_list_of_captions_is_several(tmp_path):
    write_video(tmp_path / "a.mp4")
    (tmp_path / "captions.jsonl").write_text('{"video": "a.mp4", "caption": ["one", "", "two"]}')
    assert found(tmp_path) == ({"a.mp4": ("one", "two")}, {"captions.jsonl line 1": "the caption is empty"})


def test_text_of_another_encoding_is_read_or_said(tmp_path):
    for name in ("old", "wide", "listed"):
        write_video(tmp_path / f"{name}.mp4")
    (tmp_path / "old.txt").write_bytes("das schöne Haus".encode("cp1252"))
    (tmp_path / "wide.txt").write_text("das schöne Haus", encoding="utf-16")
    line = '{"video": "%s.mp4", "caption": "das schöne Haus"}\n'
    (tmp_path / "captions.jsonl").write_bytes((line % "old").encode("cp1252") + (line % "listed").encode())
    videos, skipped = found(tmp_path)
    assert videos == {"listed.mp4": ("das schöne Haus",), "wide.mp4": ("das schöne Haus",)}
    assert "save it as UTF-8" in skipped["old.mp4"]
    assert "save the list as UTF-8" in skipped["captions.jsonl line 1"]


def test_a_folder_in_which_nothing_is_left_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no video in 'input/videos'"):
        found(tmp_path)
    write_video(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=r"None of the 1 videos in 'input/videos' has a caption"):
        found(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"a\.txt: the caption is empty"):
        found(tmp_path)
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"several caption lists: x\.jsonl, y\.jsonl"):
        found(tmp_path)


def test_windows_follow_each_other_and_the_rest_is_left(tmp_path):
    whole = write_video(tmp_path / "a.mp4", num_frames=12)
    parts = windows(tmp_path / "a.mp4")
    assert [tuple(part.shape) for part in parts] == [(5, 32, 48, 3)] * 2
    torch.testing.assert_close(torch.cat(parts), whole[:10], atol=0.05, rtol=0)
    assert len(windows(tmp_path / "a.mp4", replace(PLAN, max_windows=1))) == 1


@pytest.mark.parametrize(
    ("rate", "shown"), [(12, [0, 0, 1, 1, 2]), (48, [0, 2, 4, 6, 8]), (24, [0, 1, 2, 3, 4])]
)
def test_another_frame_rate_keeps_the_speed_of_motion(tmp_path, rate, shown):
    whole = write_video(tmp_path / "a.mp4", num_frames=10, fps=rate)
    torch.testing.assert_close(windows(tmp_path / "a.mp4")[0], whole[shown], atol=0.05, rtol=0)


def test_videos_nothing_can_be_learned_from_say_why(tmp_path):
    write_video(tmp_path / "still.mp4", num_frames=1)
    write_video(tmp_path / "short.mp4", num_frames=7)
    write_sound(tmp_path / "sound.mp4")
    write_video(tmp_path / "cut.mp4", num_frames=40)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:600])
    (tmp_path / "fake.mp4").write_bytes(b"not a video" * 50)
    reasons = {}
    for path in tmp_path.iterdir():
        with pytest.raises(VideoUnusable) as error:
            windows(path, replace(PLAN, num_frames=9))
        reasons[path.stem] = str(error.value)
    assert "a still picture" in reasons["still"]
    assert reasons["short"].startswith("it has 7 frames at 24 a second and a window needs 9.")
    assert "set num_frames to 5" in reasons["short"]
    assert "sound only" in reasons["sound"]
    assert "cannot be read" in reasons["fake"]
    assert "cannot be read" in reasons["cut"]
    assert not any(str(tmp_path) in reason for reason in reasons.values())


NULL, KA, KB, OLD, V1, V2 = (digit * 32 for digit in "0ab9cd")


def make_set(directory: Path, *, complete: bool = True) -> TrainingSet:
    """Write a set of two videos: two windows with two captions, one window with one."""
    store = ShardStore(directory)
    with locked_directory(directory):
        for key, length in ((NULL, 1), (KA, 2), (KB, 3)):
            store.save_caption(key, torch.full((length, 4), float(length)), torch.full((6,), float(length)))
        videos = []
        for key, count, captions in ((V1, 2, (KA, KB)), (V2, 1, (KB,))):
            facts = ShardFacts(count, 64, 32)
            tensors = {
                "latents": torch.arange(count).view(-1, 1, 1, 1, 1).expand(-1, 16, 4, 4, 4).float(),
                "image_states": torch.tensor([9.0, 8.0, 7.0]).view(1, 3, 1, 1).expand(count, 3, 5, 4),
            }
            store.save_video(key, tensors, facts)
            names = tuple(f"caption {k}" for k in captions)
            videos.append(
                SetVideo(f"{key}.mp4", 1, 1, "sha", key, *facts, captions=names, caption_keys=captions)
            )
        made = TrainingSet(
            directory, "input/videos", SETTINGS, NULL, tuple(videos), complete, checksums=store.checksums
        )
        made.commit()
    return made


def test_a_set_is_read_back_and_keeps_no_other_shard(tmp_path):
    directory = tmp_path / "set"
    make_set(directory)
    store = ShardStore(directory)
    store.save_caption(OLD, torch.zeros(1, 4), torch.zeros(6))
    made = make_set(directory)
    assert TrainingSet.open(directory) == made
    assert len(made) == 3
    assert sorted(path.stem for path in (directory / "captions").iterdir()) == [NULL, KA, KB]


def test_damaged_files_are_said_or_made_again(tmp_path):
    made = make_set(tmp_path / "set")
    path = made.directory / "videos" / f"{V1}.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=rf"lacks videos/{V1}.*only what is missing is encoded"):
        made.load_video(made.videos[0])
    assert ShardStore(made.directory).video_facts(V1) is None
    assert not path.exists()
    assert ShardStore(made.directory).video_facts(V2) == ShardFacts(1, 64, 32)
    (made.directory / "set.json").write_text("{")
    with pytest.raises(ValueError, match="The training set 'set' is damaged"):
        TrainingSet.open(made.directory)
    with pytest.raises(FileNotFoundError, match="no training set 'gone'"):
        TrainingSet.open(tmp_path / "gone")


def flip_a_bit(path: Path) -> None:
    """Change the last byte, which is a value's: the file stays readable."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("room", ["videos", "captions"])
def test_a_shard_with_a_flipped_bit_is_said_and_made_again(tmp_path, room):
    made = TrainingSet.open(make_set(tmp_path / "set").directory)
    key = V1 if room == "videos" else KA
    flip_a_bit(made.directory / room / f"{key}.safetensors")
    read = made.load_caption if room == "captions" else lambda _: made.load_video(made.videos[0])
    with pytest.raises(ValueError, match=rf"{room}/{key}.*its content is not what was written.*Set again"):
        read(key)
    store = ShardStore(made.directory, made.checksums)
    assert (store.holds_caption(key) if room == "captions" else store.video_facts(key)) in (None, False)
    assert store.holds_caption(KB)


def test_a_set_of_an_older_version_opens_without_checksums_and_says_so(tmp_path):
    made = make_set(tmp_path / "set")
    manifest = made.directory / "set.json"
    old = json.loads(manifest.read_text()) | {"version": 1}
    del old["checksums"]
    manifest.write_text(json.dumps(old))
    for video in made.videos:
        tensors = made.load_video(video)
        tensors["image_states"] = tensors["image_states"][:, 0]
        ShardStore(made.directory).save_video(video.key, tensors, ShardFacts(video.num_windows, 64, 32))
    opened = TrainingSet.open(made.directory)
    flip_a_bit(made.directory / "captions" / f"{KA}.safetensors")
    assert opened.load_caption(KA)
    source = VideoFolderSource(opened, known_shares=(0, 0, 1))
    said = " ".join(source.notes())
    assert "'set' was built by an older version and has no checksums" in said
    assert "the VLM was shown the first frame; in use it is shown the last known one" in said
    assert (source.batch(torch.tensor([0]), torch.Generator()).states[:, :5] == 9).all()
    assert VideoFolderSource(made).notes() == []


def test_the_content_of_a_set_is_what_can_be_learned_from_it(tmp_path):
    made = make_set(tmp_path / "set")
    source = VideoFolderSource(made)
    assert VideoFolderSource(TrainingSet.open(made.directory)).content() == source.content()
    touched = replace(made.videos[0], mtime_ns=2, path="moved.mp4")
    recaptioned = replace(made.videos[0], caption_keys=(KB, KA))
    assert replace(made, videos=(touched, made.videos[1])).content() == made.content()
    others = [
        replace(made, videos=(recaptioned, made.videos[1])),
        replace(made, videos=made.videos[:1]),
        replace(made, settings=replace(SETTINGS, encoders="others")),
        replace(made, null_key=KA),
    ]
    assert len({other.content() for other in (made, *others)}) == 5
    assert VideoFolderSource(made, with_image_states=False).content() != source.content()
    assert VideoFolderSource(made, known_shares=(0.0, 1.0)).content() != source.content()


def test_batches_hold_clip_image_states_and_caption(tmp_path):
    source = VideoFolderSource(make_set(tmp_path / "set"), known_shares=(0, 1))
    batch = source.batch(torch.tensor([0, 1, 2]), torch.Generator().manual_seed(3))
    assert batch.latents.shape == (3, 16, 4, 4, 4)
    assert batch.latents[:, 0, 0, 0, 0].tolist() == [0, 1, 0]
    assert batch.num_known.tolist() == [1, 1, 1]
    assert (batch.states[:, :5] == 9).all()
    lengths = batch.mask.sum(1) - 5
    assert set(lengths.tolist()) <= {2, 3}
    assert torch.equal(batch.pooled[:, 0], lengths.float())
    assert batch.null_states.shape == (3, 6, 4)
    assert batch.null_mask.all()
    assert (batch.null_pooled == 1).all()
    again = source.batch(torch.tensor([0, 1, 2]), torch.Generator().manual_seed(3))
    assert torch.equal(batch.states, again.states)


def test_what_a_batch_draws_comes_from_its_generator_alone(tmp_path):
    """Captions and known frames: every choice is made as often as its share says."""
    source = VideoFolderSource(make_set(tmp_path / "set"), known_shares=(0.25, 0.75))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batch = source.batch(torch.zeros(400, dtype=torch.long), torch.Generator().manual_seed(5))
    assert torch.equal(torch.get_rng_state(), before)
    assert 0.65 < batch.num_known.float().mean() < 0.85
    assert 0.4 < (batch.mask.sum(1) == 5 + 2).float().mean() < 0.6


@pytest.mark.parametrize(("num_known", "seen"), [(1, 9), (2, 8), (3, 7)])
def test_the_vlm_sees_the_last_known_frame(tmp_path, num_known, seen):
    shares = [float(known == num_known) for known in range(4)]
    batch = VideoFolderSource(make_set(tmp_path / "set"), known_shares=shares).batch(
        torch.tensor([0, 2]), torch.Generator().manual_seed(0)
    )
    assert batch.num_known.tolist() == [num_known] * 2
    assert (batch.states[:, :5] == seen).all()
    assert (batch.null_states[:, :5] == seen).all()


def test_more_known_frames_than_the_vlm_has_seen_are_refused(tmp_path):
    made = replace(make_set(tmp_path / "set"), settings=replace(SETTINGS, num_frames=81))
    with pytest.raises(ValueError, match="the VLM has seen windows of up to 3 known latent frames"):
        VideoFolderSource(made, known_shares=(0, 1, 1, 1, 1))


def test_frames_seen_are_the_last_known_ones_of_what_can_be_known():
    assert [frames_seen(count) for count in (5, 9, 13, 81)] == [[0], [0, 4], [0, 4, 8], [0, 4, 8]]


def test_a_text_to_video_batch_knows_no_frame_and_no_image(tmp_path):
    source = VideoFolderSource(
        make_set(tmp_path / "set"), known_shares=TEXT_TO_VIDEO, with_image_states=False
    )
    batch = source.batch(torch.tensor([2]), torch.Generator())
    assert batch.num_known.tolist() == [0]
    assert batch.states.shape == (1, 3, 4)


def test_an_interrupted_set_is_not_trained_on(tmp_path):
    with pytest.raises(ValueError, match="not complete: building it was interrupted"):
        VideoFolderSource(make_set(tmp_path / "set", complete=False))


def test_the_report_says_what_was_cropped(tmp_path):
    text = set_report(make_set(tmp_path / "set"), num_encoded=1)
    assert "2 videos with 2 captions: 3 windows of 13 frames, 32 x 32 px" in text
    assert "1 videos encoded now, 1 reused, 0 files skipped" in text
    assert "2 videos have another shape" in text
    assert "50% of the picture is lost" in text


def test_the_shapes_world_is_such_a_folder(tmp_path):
    from magic141.lab.world.export_videos import export

    export(tmp_path, count=3, num_frames=9, captions="mixed")
    videos, skipped = found(tmp_path)
    assert len(videos) == 3
    assert not skipped
    assert all("background" in caption for (caption,) in videos.values())
    assert [part.shape for part in windows(tmp_path / "00000.mp4", replace(PLAN, num_frames=9))] == [
        (9, 64, 64, 3)
    ]


def cut(width: int, height: int, share: str) -> str:
    return (
        f"2 videos have another shape: scaled to cover {width} x {height} px and cut at the center; up to {share} of "
        "the picture is lost."
    )


ENLARGED = "2 videos are smaller than that and were enlarged: expect them to look soft."


@pytest.mark.parametrize(
    ("width", "height", "lines"),
    [
        (64, 32, []),
        (32, 16, []),
        (128, 64, [ENLARGED]),
        (65, 32, [ENLARGED]),
        (16, 16, [cut(16, 16, "50%")]),
        (64, 16, [cut(64, 16, "50%")]),
        (48, 32, [cut(48, 32, "25%")]),
        (64, 33, [cut(64, 33, "3%"), ENLARGED]),
    ],
)
def test_the_report_tells_what_a_size_costs(tmp_path, width, height, lines):
    """Of videos of 64 x 32 pixels."""
    made = make_set(tmp_path / "set")
    made = replace(made, settings=replace(SETTINGS, width=width, height=height))
    assert set_report(made, num_encoded=0).splitlines()[2:] == lines


@pytest.mark.parametrize("size", ["", "0", "64x", "1234567"])
def test_a_shard_without_its_videos_size_is_made_again(tmp_path, size):
    made = make_set(tmp_path / "set")
    path = made.directory / "videos" / f"{V1}.safetensors"
    save_file(load_file(path), path, {"width": "64", "height": size})
    assert ShardStore(made.directory).video_facts(V1) is None
    assert not path.exists()


def test_values_too_large_for_half_precision_are_kept_in_bfloat16():
    largest = torch.finfo(torch.float16).max
    assert compact(torch.tensor([1.0, -largest])).dtype == torch.float16
    assert compact(torch.tensor([])).dtype == torch.float16
    large = compact(torch.tensor([2.0 * largest, 1.0]))
    assert (large.dtype, large.isfinite().all().item()) == (torch.bfloat16, True)


def test_single_frames_are_for_text_to_video_alone(tmp_path):
    made = make_set(tmp_path / "set")
    frames = replace(made, settings=replace(SETTINGS, num_frames=1))
    with pytest.raises(ValueError, match="The windows of 'set' are single frames"):
        VideoFolderSource(frames)
    VideoFolderSource(frames, known_shares=TEXT_TO_VIDEO, with_image_states=False)
    two = VideoFolderSource(replace(made, settings=replace(SETTINGS, num_frames=5)))
    assert two.known_shares.tolist() == pytest.approx([0.0, 0.6])
    with pytest.raises(ValueError, match="The training set 'set' is empty"):
        VideoFolderSource(replace(made, videos=()))


def test_a_set_is_written_as_every_version_reads_it(tmp_path):
    made = make_set(tmp_path / "set")
    manifest = json.loads((made.directory / "set.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("magic141-training-set", 3)
    assert set(manifest) == {
        "format",
        "version",
        "folder",
        "settings",
        "null_key",
        "complete",
        "skipped",
        "checksums",
        "videos",
    }
    assert set(manifest["checksums"]) == {
        *(f"captions/{key}.safetensors" for key in (NULL, KA, KB)),
        *(f"videos/{key}.safetensors" for key in (V1, V2)),
    }
    assert set(load_file(made.directory / f"captions/{KA}.safetensors")) == {"states", "pooled"}


@pytest.mark.parametrize(
    "changes", [{"format": "another"}, {"version": 0}, {"version": 4}, {"version": None}, {"checksums": []}]
)
def test_a_set_of_another_version_is_refused(tmp_path, changes):
    made = make_set(tmp_path / "set")
    path = made.directory / "set.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match="The training set 'set' is damaged"):
        TrainingSet.open(made.directory)


def test_a_set_of_version_2_opens_with_its_checksums(tmp_path):
    made = make_set(tmp_path / "set")
    path = made.directory / "set.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    assert TrainingSet.open(made.directory).checksums == made.checksums


def test_a_full_disk_is_said_with_the_folder_of_the_set(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(shards, "make_subfolder", full)
    with pytest.raises(DiskRefused, match=f"The disk is full: {tmp_path}"), locked_directory(tmp_path):
        pass
    monkeypatch.setattr(dataset, "write_text", full)
    empty = TrainingSet(tmp_path, "input/videos", SETTINGS, NULL)
    assert (empty.videos, empty.skipped, empty.checksums) == ((), (), {})
    assert empty.complete is False
    with pytest.raises(DiskRefused, match=f"The disk is full: {tmp_path}"):
        empty.commit()


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_texts_that_are_no_plain_files_inside_the_folder_are_skipped_and_said(tmp_path, kind):
    folder, outside = tmp_path / "videos", tmp_path / "outside.txt"
    outside.write_text("a secret")
    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4")
    (folder / "b.txt").write_text("a ball")
    for name in ("a.txt", "list.jsonl"):
        (folder / name).symlink_to(outside) if kind == "link" else (folder / name).mkdir()
    videos, skipped = found(folder)
    assert videos == {"b.mp4": ("a ball",)}
    said = (
        "a symbolic link that leaves the folder is not read" if kind == "link" else "it is not a regular file"
    )
    assert skipped["a.mp4"].startswith(f"its caption a.txt cannot be read: {said}")
    assert skipped["list.jsonl"].startswith(f"it cannot be read: {said}")


def test_more_than_twenty_left_out_are_counted():
    skipped = [(f"{number}.mp4", "why") for number in range(22)]
    assert skipped_lines(skipped[:20]) == [f"skipped {number}.mp4: why" for number in range(20)]
    assert skipped_lines(skipped)[20:] == ["... and 2 more skipped."]


def test_what_was_left_out_is_kept_with_a_set_and_makes_no_other_set_of_it(tmp_path):
    made = make_set(tmp_path / "set")
    told = replace(made, skipped=(("b.mp4", "no caption"),))
    told.commit()
    opened = TrainingSet.open(made.directory)
    assert opened.skipped == (("b.mp4", "no caption"),)
    assert opened == made
    assert replace(made, checksums={}, version=1) == made
    assert replace(made, complete=False) != made
    assert (made.directory / "set.json").read_text().splitlines()[1].startswith(' "'), "a line for each entry"


def test_the_digest_of_a_set_stays_so_that_old_runs_go_on(tmp_path):
    made = make_set(tmp_path / "set")
    told = [vars(SETTINGS), NULL, [[V1, 2, [KA, KB]], [V2, 1, [KB]]]]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    assert made.content() == digest
    source = VideoFolderSource(made, known_shares=(0.0, 1.0))
    assert source.content() == f"{digest}/[0.0, 1.0]/True"


def test_a_shard_that_cannot_be_removed_stays_for_the_next_build(tmp_path, monkeypatch):
    made = make_set(tmp_path / "set")
    ShardStore(made.directory).save_caption(OLD, torch.zeros(1, 4), torch.zeros(6))

    def in_use(path):
        raise PermissionError(path)

    monkeypatch.setattr(dataset, "remove_file", in_use)
    made.commit()
    assert (made.directory / f"captions/{OLD}.safetensors").exists()


def test_a_shards_bytes_are_checked_once(tmp_path, monkeypatch):
    opened, asked = TrainingSet.open(make_set(tmp_path / "set").directory), []
    whole = dataset.file_sha256
    monkeypatch.setattr(dataset, "file_sha256", lambda path: asked.append(path.stem) or whole(path))
    for _ in range(2):
        opened.load_caption(KA)
        opened.load_video(opened.videos[0])
    assert asked == [KA, V1]


def test_a_shard_without_notes_or_rows_is_made_again(tmp_path):
    made = make_set(tmp_path / "set")
    path = made.directory / "videos" / f"{V1}.safetensors"
    tensors = load_file(path)
    for changed in (tensors, {**tensors, "latents": torch.tensor(1.0)}, {"image_states": torch.zeros(1)}):
        save_file(changed, path, None if changed is tensors else {"width": "64", "height": "32"})
        assert ShardStore(made.directory).video_facts(V1) is None
        assert not path.exists()
    empty = {**tensors, "latents": tensors["latents"][:0]}
    save_file(empty, path, {"width": "64", "height": "32"})
    assert ShardStore(made.directory).video_facts(V1) is None
    save_file(tensors, path, {"width": "1", "height": "999999"})
    assert ShardStore(made.directory).video_facts(V1) == ShardFacts(2, 1, 999999)


def test_batches_are_float32_whatever_the_shards_hold(tmp_path):
    made = make_set(tmp_path / "set")
    assert load_file(made.directory / f"captions/{KA}.safetensors")["states"].dtype == torch.float16
    batch = VideoFolderSource(made).batch(torch.tensor([0, 2]), torch.Generator())
    floats = {name: value.dtype for name, value in vars(batch).items() if value.is_floating_point()}
    assert set(floats.values()) == {torch.float32}
    assert len(floats) == 5


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "it is a still picture"),
        (2, "it has 2 frames at 24 a second and a window needs 9. Use a longer video"),
        (4, "it has 4 frames at 24 a second and a window needs 9. Use a longer video"),
        (5, "Use a longer video, or set num_frames to 5 or less"),
        (8, "Use a longer video, or set num_frames to 5 or less"),
    ],
)
def test_a_video_that_is_too_short_is_said_with_what_it_would_do_for(tmp_path, count, said):
    write_video(tmp_path / "a.mp4", num_frames=count)
    with pytest.raises(VideoUnusable) as error:
        windows(tmp_path / "a.mp4", replace(PLAN, num_frames=9))
    assert str(error.value).endswith(said) or said == "it is a still picture"
    assert said in str(error.value)


@pytest.mark.parametrize(
    "suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".gif", ".ts"]
)
def test_videos_are_known_by_their_endings(suffix):
    assert is_video_name(f"a{suffix}")
    assert is_video_name(f"A.B{suffix.upper()}")
    assert not is_video_name(f"a{suffix}x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_captions_of_every_unicode_text_file_are_read(tmp_path, encoding):
    write_video(tmp_path / "a.mp4")
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    (tmp_path / "a.txt").write_bytes(f"{mark}das schöne Haus".encode(encoding))
    assert found(tmp_path)[0] == {"a.mp4": ("das schöne Haus",)}


def test_names_in_a_list_may_be_written_as_on_windows(tmp_path):
    write_video(tmp_path / "more" / "a.mp4")
    line = {"video": ".\\more\\a.mp4", "caption": "a ball"}
    (tmp_path / "list.jsonl").write_text(json.dumps(line))
    (tmp_path / "._list.jsonl").write_text("of macOS")
    assert found(tmp_path) == ({"more/a.mp4": ("a ball",)}, {})


def test_only_the_checksums_of_its_own_shards_are_kept_with_a_set(tmp_path):
    made = make_set(tmp_path / "set")
    known = {name: text for name, text in made.checksums.items() if V1 not in name}
    replace(made, checksums=known | {f"captions/{OLD}.safetensors": "0" * 64}).commit()
    assert TrainingSet.open(made.directory).checksums == known


def test_mostly_one_frame_is_known_and_never_none(tmp_path):
    source = VideoFolderSource(make_set(tmp_path / "set"))
    assert source.known_shares.tolist() == pytest.approx([0.0, 0.6, 0.2, 0.2])
