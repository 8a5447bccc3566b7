"""Little videos for tests: moving stripes with a caption, and files no training can use."""

from pathlib import Path

import av
import numpy as np
import torch
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from torch import Tensor


def moving_stripes(num_frames: int, width: int, height: int) -> Tensor:
    """Return (num_frames, height, width, 3) in [0, 1]; every frame has another brightness and other stripes."""
    x = torch.arange(width)[None, None, :] + 4 * torch.arange(num_frames)[:, None, None]
    stripes = (x // 8 % 2).float() * 0.4 + torch.linspace(0, 0.5, num_frames)[:, None, None]
    return stripes[..., None].expand(num_frames, height, width, 3)


def write_video(
    path: Path, *, num_frames: int = 13, width: int = 48, height: int = 32, fps: float = 24
) -> Tensor:
    """Write an mp4; return its frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = moving_stripes(num_frames, width, height)
    write_segment(path, frames, VideoFormat("h264", fps, width, height, quality=1))
    return frames


def write_captioned(path: Path, caption: str, **options) -> None:
    """Write an mp4 with its caption beside it."""
    write_video(path, **options)
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def write_sound(path: Path) -> None:
    """Write a file with a second of sound and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        samples = np.zeros((1, 1024), dtype=np.float32)
        for number in range(16):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
