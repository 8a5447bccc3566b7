"""Folder Quality: a row a video, kept for the next run, and what is said of videos and folders that cannot be used."""

import json
from pathlib import Path

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from comfy.model_management import InterruptProcessingException
from magic141.model_patches.bridge.judge import folder as judge_folder
from magic141.model_patches.store.pictures import to_image
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from magic141.nodes.folder_quality import FolderQuality
from magic141.tests.support.published_comparison import moving_video


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    for folder, seeds in (("teacher", (0, 1)), ("student", (2,))):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            frames = moving_video(seed=seed, height=64, width=96, count=6).float() / 255
            write_segment(tmp_path / folder / f"{seed}.mkv", frames, VideoFormat("ffv1 lossless", 24, 96, 64))
            to_image(frames[0]).save(tmp_path / folder / f"{seed}.png")
            (tmp_path / folder / f"{seed}.txt").write_text("a red circle")
    return tmp_path


def run(
    folders: str = "teacher, 28 steps = output/teacher\noutput/student", reference: str = ""
) -> tuple[str, str]:
    return FolderQuality.execute(folders, "rows", reference).result


def test_each_folder_has_a_row_and_each_video_a_line(output):
    text, path = run()
    assert "| teacher, 28 steps | 2 |" in text
    assert "| output/student | 1 |" in text
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    assert [row["key"].split(" | ")[0] for row in rows] == [
        "output/teacher/0.mkv",
        "output/teacher/1.mkv",
        "output/student/2.mkv",
    ]
    assert all(row["values"]["start_psnr"] > 90 for row in rows)


def test_a_picture_belongs_to_all_videos_that_the_host_counted_by_its_name(output):
    for name in ("fox_00001_.mkv", "fox_00002_.mkv"):
        (output / "student" / name).write_bytes((output / "student" / "2.mkv").read_bytes())
    (output / "student" / "fox.png").write_bytes((output / "student" / "2.png").read_bytes())
    rows = [
        json.loads(line) for line in Path(run("output/student")[1]).read_text(encoding="utf-8").splitlines()
    ]
    assert [row["values"]["start_psnr"] > 90 for row in rows] == [True, True, True]


def test_a_run_goes_on_where_it_stopped(output, monkeypatch):
    judged = []
    original = judge_folder._row

    def stopping(video, *others):
        judged.append(video.name)
        if len(judged) == 2:
            raise InterruptProcessingException
        return original(video, *others)

    monkeypatch.setattr(judge_folder, "_row", stopping)
    with pytest.raises(InterruptProcessingException):
        run()
    path = output / "magic141_quality" / "rows.jsonl"
    path.write_text(path.read_text() + '\n{"key": "half')
    text, _ = run()
    assert judged == ["0.mkv", "1.mkv", "1.mkv", "2.mkv"]
    assert "| teacher, 28 steps | 2 |" in text
    run()
    assert len(judged) == 4, "nothing is measured twice"
    (output / "teacher" / "0.txt").write_text("another prompt")
    run()
    assert judged[4:] == ["0.mkv"], "what changed is"


@pytest.mark.parametrize(
    "line",
    [
        '{"key": "x", "values": {"motion": "fast"}}',
        '{"key": "x", "values": {"motion": 1e999}}',
        "[1]",
        "{}",
        "\0",
    ],
)
def test_lines_of_others_are_not_taken_for_rows(output, line):
    path = output / "magic141_quality" / "rows.jsonl"
    path.parent.mkdir()
    path.write_text(line)
    assert "| output/student | 1 |" in run()[0]


def test_a_broken_video_is_named_and_the_rest_measured(output):
    (output / "student" / "3.mp4").write_bytes(b"no video")
    text, _ = run()
    assert "student/3.mp4 cannot be read as a video (Invalid data" in text
    assert "| output/student | 1 |" in text
    assert "cannot be read as a video" in text


def test_folders_that_cannot_be_used_are_said(output):
    (output / "empty").mkdir()
    with pytest.raises(ValueError, match=r"'output/empty' holds no video"):
        run("output/empty")
    with pytest.raises(ValueError, match="folders is empty"):
        run(" \n")
    with pytest.raises(ValueError, match="outside what ComfyUI may read"):
        run("/etc")


def test_missing_models_of_sets_are_named(output):
    text, _ = run(reference="output/teacher")
    assert "FID is not measured. Put pt_inception-2015-12-05-6726825d.pth" in text
    assert "FVD is not measured. Put the folder videomae-base" in text


def test_what_is_missing_is_said_for_a_folder(output):
    (output / "teacher" / "1.png").unlink()
    (output / "teacher" / "1.txt").unlink()
    text, _ = run()
    assert (
        "teacher, 28 steps: Not measured in 1 of 2 clips: first frame PSNR, first frame SSIM, first frame LPIPS. Put "
        "the start picture beside the video" in text
    )
    assert "\nNot measured: aesthetic quality. Put the folder clip-vit-large-patch14" in text
    assert "Connect" not in text
