"""A flash at the beginning of a window is found; objects that move are none."""

import pytest
import torch
from magic141.lab import world
from magic141.model_patches.window.flash import measure_flash

KNOWN = 5


@pytest.fixture(scope="module")
def clips() -> list[torch.Tensor]:
    scenes = world.sample_scenes(40, generator=torch.Generator().manual_seed(3))
    return list(world.render_clip(scenes, KNOWN + 8).movedim(2, -1))


def as_bytes(frames: torch.Tensor) -> torch.Tensor:
    return frames.clamp(0, 1).mul(255).round() / 255


def brightness_at_the_seam(clip: torch.Tensor, gain: float) -> float:
    new = clip[KNOWN:].clone()
    new[:3] *= gain
    return measure_flash(as_bytes(clip[:KNOWN]), as_bytes(new))["flash_brightness"]


def test_moving_objects_are_no_flash(clips):
    assert max(abs(brightness_at_the_seam(clip, 1.0)) for clip in clips) <= 0.03


def test_a_darker_beginning_is_found_and_its_size_told(clips):
    found = [brightness_at_the_seam(clip, 0.94) for clip in clips]
    assert max(found) < -0.03
    assert sum(found) / len(found) == pytest.approx(-0.06, abs=0.01)


def test_a_gray_beginning_loses_contrast(clips):
    clip = next(clip for clip in clips if clip.std() > 0.15)
    gray = clip[KNOWN:] * 0.5 + clip[KNOWN:].mean() * 0.5
    assert measure_flash(clip[:KNOWN], gray)["flash_contrast"] < -0.3


def test_a_blurred_beginning_loses_sharpness(clips):
    clip = clips[0]
    blurred = torch.nn.functional.avg_pool2d(clip[KNOWN:].movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    assert measure_flash(clip[:KNOWN], blurred)["flash_sharpness"] < -0.3
