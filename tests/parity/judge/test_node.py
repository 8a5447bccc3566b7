"""Clip Quality as an artist runs it, without any model file, and with clips that are hard to measure."""

import json
import math

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from comfy_api.latest import InputImpl
from magic141.model_patches.judge.catalog import MEASURES
from magic141.model_patches.store.video_sink import VideoFormat, write_segment
from magic141.nodes.clip_quality import ClipQuality

WITHOUT_A_MODEL = {name for name, measure in MEASURES.items() if not measure.needs}


def going(count: int = 24, *, side: int = 64, step: float = 1.0) -> torch.Tensor:
    """A soft disc that goes to the right over a pattern."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(1.5 * side), indexing="ij")
    ground = 0.4 + 0.1 * torch.sin(x / 2) * torch.sin(y / 3)
    distances = [torch.hypot(x - side / 3 - i * step, y - side / 2) for i in range(count)]
    frames = torch.stack([ground + 0.4 * torch.sigmoid((side / 6 - distance) / 2) for distance in distances])
    return frames[..., None] * torch.tensor([1.0, 0.8, 0.6])


def judge(clip, **inputs) -> tuple[str, torch.Tensor, dict, str]:
    text, plot, document, summary = ClipQuality.execute(clip, inputs.pop("fps", 24.0), **inputs).result
    return text, plot, json.loads(document), summary


def values_of(clip, **inputs) -> dict[str, float]:
    return judge(clip, **inputs)[2]["a"]["values"]


def test_a_clip_without_faults_and_what_is_missing():
    clip = going()
    text, plot, document, summary = judge(clip, start_image=clip[:1], prompt="a disc")
    assert summary == "Nothing stands out: no jumps, no standstill, colors and sharpness hold."
    assert text.startswith(summary)
    assert set(document["a"]["values"]) == WITHOUT_A_MODEL
    assert document["a"]["values"]["start_psnr"] > 50
    assert set(document["a"]["missing"]) == set(MEASURES) - WITHOUT_A_MODEL
    assert "Put the folder dino-vitb16 (facebook, on Hugging Face) into models/magic141_" in text
    assert "Put musiq_spaq_ckpt-358bb6af.pth" in text
    assert plot.shape[0] == 1
    assert plot.shape[-1] == 3


def test_a_video_says_the_same_as_its_frames(tmp_path):
    frames = going()
    write_segment(tmp_path / "v.mkv", frames, VideoFormat("ffv1 lossless", 12, 96, 64))
    video = InputImpl.VideoFromFile(str(tmp_path / "v.mkv"))
    assert values_of(video) == pytest.approx(values_of(frames, fps=12.0), abs=2e-3)
    assert judge(video)[2]["a"]["fps"] == 12


def with_standstill(clip: torch.Tensor) -> torch.Tensor:
    return torch.cat([clip[:6], clip[5:6].expand(12, -1, -1, -1), clip[6:]])


def with_blur(clip: torch.Tensor) -> torch.Tensor:
    return torch.cat([clip[:12], clip[12:].mean(2, keepdim=True).expand_as(clip[12:])])


FAULTS = {
    "a jump at 0.5 s": lambda clip: torch.cat([clip[:12], clip[12:].flip(2)]),
    "nothing moves for 0.5 s from 0.2 s on": with_standstill,
    "sharpness falls to": with_blur,
    "delta E away from the beginning": lambda clip: clip * torch.linspace(1, 0.7, 24).view(-1, 1, 1, 1),
    "nothing moves at all": lambda clip: clip[:1].expand(24, -1, -1, -1),
}


@pytest.mark.parametrize("told", FAULTS)
def test_what_stands_out_is_said(told):
    assert told in judge(FAULTS[told](going()))[3]


def test_two_clips_of_two_sizes_are_compared():
    one, other = going(), going(30, side=48) * torch.linspace(1, 0.6, 30).view(-1, 1, 1, 1)
    text, _, document, summary = judge(one, other_clip=other)
    assert summary.startswith("A is better in color drift (")
    assert document["b"]["frames"] == 30
    assert "A: 24 frames, 96 x 64" in text
    assert "B: 30 frames, 72 x 48" in text
    assert "nothing that a viewer would notice" in judge(one, other_clip=one)[3]


def test_one_frame_has_the_measures_of_a_picture():
    text, _, document, _ = judge(going(1), start_image=going(1))
    assert set(document["a"]["values"]) == {"sharpness", "start_psnr", "start_ssim"}
    assert document["a"]["missing"]["motion"] == "The clip needs 2 frames or more for it."
    assert document["a"]["missing"]["motion_smoothness"] == "The clip needs 3 frames or more for it."
    assert document["a"]["missing"]["worst_jump"] == "The clip needs 4 frames or more for it."
    assert "Not measured" in text
    assert set(values_of(going(1))) == {"sharpness"}


def test_frames_that_are_no_numbers_are_left_out_and_named():
    clip = going()
    clip[3, 5, 5, 0] = math.nan
    text, _, document, _ = judge(clip)
    assert document["a"]["frames"] == 23
    assert "Left out: frame 4, which has values that are not numbers (NaN)" in text
    with pytest.raises(ValueError, match="no frame that can be measured"):
        judge(clip * math.nan)


def test_a_start_picture_that_is_none_is_said_and_the_rest_measured():
    text, _, document, _ = judge(going(), start_image=torch.full((1, 32, 32, 3), math.nan))
    assert "Measured without the start picture" in text
    assert "motion" in document["a"]["values"]
    why = "The start picture cannot be used; the notes say why."
    assert document["a"]["missing"]["start_psnr"] == why
