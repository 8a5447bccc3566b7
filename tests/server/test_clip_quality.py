"""Clip Quality and Folder Quality in a real ComfyUI: the table on the node, what is refused, a cancel."""

import pytest
import torch
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from magic141.tools.client import Interrupted, PromptRejected


def quality(**inputs) -> dict:
    return {"class_type": "Magic141ClipQuality", "inputs": {"prompt": "", "fps": 24.0} | inputs}


def folders(text: str) -> dict:
    inputs = {"folders": text, "results_name": "server test", "reference_folder": ""}
    return {"class_type": "Magic141FolderQuality", "inputs": inputs}


def plain(count: int, side: int = 64) -> dict:
    inputs = {"width": side, "height": side, "batch_size": count, "color": 0x336699}
    return {"class_type": "EmptyImage", "inputs": inputs}


@pytest.fixture
def video(server):
    """A short video in the input folder, and in one of the output folder."""
    frames = torch.rand(12, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    folder = server.base / "output" / "judged"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (server.base / "input" / "judged.mp4", folder / "a.mp4"):
        write_segment(path, frames, VideoFormat("h264 lossless", 24, 64, 48))
    return {"class_type": "LoadVideo", "inputs": {"file": "judged.mp4"}}


def test_a_video_and_an_image_are_judged_side_by_side(client, video):
    stages: list[str] = []
    prompt = {
        "1": video,
        "2": plain(12),
        "3": quality(clip=["1", 0], other_clip=["2", 0], start_image=["2", 0]),
    }
    prompt["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}}
    result = client.run(
        prompt, on_event=lambda kind, data: stages.append(data["text"]) if kind == "text" else None
    )
    text = result.outputs["3"]["text"][0]
    assert "A: 12 frames, 64 x 48, 24 frames a second, 0.5 s" in text
    assert "Put the folder dino-vitb16" in text
    assert len(result.outputs["4"]["images"]) == 1
    assert any("judging A" in stage for stage in stages)
    assert any("done in" in stage for stage in stages)


def test_folders_are_judged_and_others_refused(client, video):
    text = client.run({"1": folders("noise = output/judged")}).outputs["1"]["text"][0]
    assert "| noise | 1 |" in text
    for wrong, message in (
        ("/etc", "outside what ComfyUI may read"),
        ("output/nowhere", "There is no folder"),
    ):
        with pytest.raises(PromptRejected, match=message):
            client.run({"1": folders(wrong)})


def test_a_cancel_ends_it_in_the_middle(client):
    said: list[str] = []

    def cancel(kind: str, data: dict) -> None:
        if kind == "text" and "judging" in data["text"]:
            said.append(data["text"])
            client.interrupt()

    with pytest.raises(Interrupted):
        client.run({"1": plain(2000, side=256), "2": quality(clip=["1", 0])}, on_event=cancel)
    assert all(int(text.split()[-2]) < 50 for text in said), said  # "judging: 7 %"
