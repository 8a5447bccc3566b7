"""The folder of a run: what a window needs on disk, and the video that is joined from windows whatever happens."""

import shutil
from collections import namedtuple
from pathlib import Path

import av
import pytest
import torch
from av.error import FFmpegError
from magic141.model_patches.store import video_sink
from magic141.model_patches.store.disk import DiskRefused, KeptElsewhere
from magic141.model_patches.store.sound import Sound
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.window import store as store_module
from magic141.model_patches.window.journal import chain_keys
from magic141.model_patches.window.store import WindowStore
from magic141.tests.support.tiny_videos import write_sound

LOSSLESS = VideoFormat("ffv1 lossless", 24, 32, 32)
KEYS = chain_keys({}, [{"n": index} for index in range(3)])
FRAMES = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(0))
FACTS = {
    "prompt": "a",
    "seed": 1,
    "attempts": 1,
    "start_frame": 0,
    "num_new_frames": 3,
    "seconds": 0.5,
    "measures": {"color_shift": 0.0, "brightness": 0.5, "sharpness": 0.1},
}


def save(store: WindowStore, index: int) -> None:
    tensors = {"tail": torch.tensor([index])}
    store.save(index, KEYS[index], FRAMES, tensors=tensors, facts={"index": index, **FACTS})


def num_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("video", "share"), [(LOSSLESS, 1), (VideoFormat("h264", 24, 32, 32), 4)], ids=["lossless", "h264"]
)
def test_a_window_needs_room_for_its_values_or_a_quarter_of_them(tmp_path, monkeypatch, video, share):
    usage = namedtuple("usage", "free")
    needed = 64 * 1024**2 + FRAMES.numel() // share
    with WindowStore(tmp_path, {}, video) as store:
        save(store, 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(needed - 1))
        with pytest.raises(
            DiskRefused, match=r"64 MB are free .* may need 64\. The 1 finished windows are kept"
        ):
            save(store, 1)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(needed))
        save(store, 1)
        assert store.join().suffix == video.suffix


def test_the_pieces_lie_where_every_version_looks_for_them(tmp_path):
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        store.write_lead_in(FRAMES)
        save(store, 0)
        save(store, 1)
        names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        windows = {f"windows/{n:04d}.{suffix}" for n in (0, 1) for suffix in ("json", "safetensors")}
        segments = {f"segments/{name}.mkv" for name in ("0000", "0001", "source")}
        assert names == {"run.json", "lock", *windows, *segments}
        assert set(store.entries[0].files) == {
            "windows/0000.safetensors",
            "segments/0000.mkv",
            "segments/source.mkv",
        }
        assert set(store.entries[1].files) == {"windows/0001.safetensors", "segments/0001.mkv"}
        video = store.join()
    assert video == tmp_path / f"video_{KEYS[1][:8]}.mkv"
    assert num_frames(video) == 9


def test_a_video_that_is_continued_is_written_once(tmp_path):
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        store.write_lead_in(FRAMES)
        save(store, 0)
        before = (tmp_path / "segments/source.mkv").stat().st_mtime_ns
        store.write_lead_in(FRAMES[:1])
        assert (tmp_path / "segments/source.mkv").stat().st_mtime_ns == before


def test_windows_of_an_earlier_run_are_taken_over_with_what_they_left(tmp_path):
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        assert store.restore(KEYS) == []
        save(store, 0)
        save(store, 1)
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        assert store.restore(KEYS) == ["2 of 3 windows were finished by an earlier run."]
        assert store.journal.tensors(0)["tail"].tolist() == [0]
        assert store.journal.tensors(1)["tail"].tolist() == [1]
        save(store, 0)
        assert [entry.index for entry in store.entries] == [0], "later windows no longer follow from it"


def test_a_window_of_another_format_is_made_again(tmp_path):
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        save(store, 0)
    with WindowStore(tmp_path, {}, VideoFormat("h264", 24, 32, 32)) as store:
        assert "0000.json is damaged" in store.restore(KEYS)[0]


def test_a_run_that_fails_leaves_the_video_of_its_finished_windows(tmp_path):
    store = WindowStore(tmp_path, {}, LOSSLESS).__enter__()
    save(store, 0)
    save(store, 1)
    store.__exit__(RuntimeError)
    (video,) = tmp_path.glob("*.mkv")
    assert video.name == f"unfinished_{KEYS[1][:8]}.mkv"
    assert num_frames(video) == 6
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        store.restore(KEYS)
        finished = store.join()
    assert list(tmp_path.glob("*.mkv")) == [finished], "the unfinished one has gone"


def test_a_run_without_a_finished_window_leaves_no_video(tmp_path):
    with pytest.raises(RuntimeError), WindowStore(tmp_path, {}, LOSSLESS):
        raise RuntimeError
    assert not list(tmp_path.glob("*.mkv"))


@pytest.mark.parametrize("error", [FFmpegError(1, "no such sound"), ValueError("no such sound")])
def test_sound_that_cannot_be_joined_is_left_out_and_said(tmp_path, monkeypatch, caplog, error):
    write_sound(tmp_path / "sound.mp4")
    whole = video_sink.join_segments

    def without_sound(path, segments, *, sound=None, metadata):
        if sound is not None:
            raise error
        whole(path, segments, metadata=metadata)

    monkeypatch.setattr(store_module, "join_segments", without_sound)
    with WindowStore(tmp_path / "run", {}, LOSSLESS) as store:
        save(store, 0)
        store.sound, store.metadata = Sound(tmp_path / "sound.mp4", 0, False), {"title": "mine"}
        path = store.join()
    assert f"{path.name} gets no sound: " in caplog.text
    with av.open(str(path)) as container:
        assert {name.lower(): value for name, value in container.metadata.items()}["title"] == "mine"
    assert num_frames(path) == 3


@pytest.mark.parametrize("error", [DiskRefused("The disk is full"), FFmpegError(1, "it is damaged")])
def test_a_video_that_cannot_be_joined_at_all_is_said(tmp_path, monkeypatch, error):
    def refused(*_, **__):
        raise error

    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        save(store, 0)
        store.sound = Sound(tmp_path, 0, False) if isinstance(error, DiskRefused) else None
        monkeypatch.setattr(store_module, "join_segments", refused)
        with pytest.raises(type(error)):
            store.join()


def test_a_video_that_is_open_in_a_player_is_kept_under_another_name(tmp_path, monkeypatch, caplog):
    whole = video_sink.join_segments

    def in_use(path, segments, **options):
        other = path.with_stem(f"{path.stem}_2")
        whole(other, segments, **options)
        raise KeptElsewhere(path, other)

    monkeypatch.setattr(store_module, "join_segments", in_use)
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        save(store, 0)
        path = store.join(finished=False)
        assert path == tmp_path / f"unfinished_{KEYS[0][:8]}_2.mkv"
        assert path.is_file(), "it is the newest of the unfinished ones"
    assert f"kept as {path.name}" in caplog.text


def test_a_run_lies_in_folders_that_are_made_for_it(tmp_path):
    folder = tmp_path / "a" / "b"
    with WindowStore(folder, {"steps": 4}, LOSSLESS) as store:
        store.save(
            0, KEYS[0], FRAMES, tensors={"tail": torch.arange(6).reshape(2, 3).T}, facts={"index": 0, **FACTS}
        )
        assert store.journal.tensors(0)["tail"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert (folder / "run.json").read_text().splitlines()[1] == ' "format": 1,'


def test_what_was_finished_is_said_before_what_is_made_again(tmp_path):
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        save(store, 0)
        save(store, 1)
    assert not list(tmp_path.glob("*.mkv")), "whoever drives the run joins it"
    (tmp_path / "segments/0001.mkv").write_bytes(b"damaged")
    with WindowStore(tmp_path, {}, LOSSLESS) as store:
        assert store.restore(KEYS) == [
            "1 of 3 windows were finished by an earlier run.",
            "Window 2 and later are made again: segments/0001.mkv is damaged.",
        ]
