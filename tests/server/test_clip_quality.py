"""Clip Quality and Folder Quality in a real ComfyUI: their table on the node, their picture, and a cancel."""

import pytest
import torch
from magic141.model_patches.store.video_sink import VideoFormat, write_segment


def quality(**inputs) -> dict:
    return {"class_type": "Magic141ClipQuality", "inputs": {"prompt": "", "fps": 24.0} | inputs}


def pictures(count: int, side: int = 64) -> dict:
    inputs = {"width": side, "height": side, "batch_size": count, "color": 0x336699}
    return {"class_type": "EmptyImage", "inputs": inputs}


@pytest.fixture
def videos(server):
    folder = server.base / "output" / "judged"
    folder.mkdir(parents=True, exist_ok=True)
    frames = torch.rand(12, 48, 64, 3, generator=torch.Generator().manual_seed(0))
    write_segment(folder / "a.mkv", frames, VideoFormat("ffv1 lossless", 24, 64, 48))
    return folder
