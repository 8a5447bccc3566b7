"""The long-video measures on clips whose truth is known."""

import pytest
import torch
from magic141.lab import world
from magic141.model_patches.window.plan import Window
from magic141.tests.bench.support.window_reading import ClipReader, true_drift

SEAMS = (0, 13, 21, 29, 37, 45)
LENGTH = 53


def truth(count: int = 4) -> tuple[world.Scenes, torch.Tensor]:
    """Return scenes and their true clips as bytes, (B, T, H, W, 3)."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(2), second_share=0.0)
    frames = world.render_clip(scenes, LENGTH).movedim(2, -1)
    return scenes, frames.mul(255).round().byte()


def read(scenes: world.Scenes, frames: torch.Tensor) -> dict[str, float]:
    reader = ClipReader(scenes, torch.arange(len(scenes)) >= len(scenes) // 2)
    for index, start in enumerate(SEAMS):
        end = (*SEAMS, LENGTH)[index + 1]
        window = Window(index, start, end - start, "", 0, 4, 2, 2)
        reader.add(window, frames[:, start:end])
    return reader.figures()


def test_the_truth_is_perfect():
    figures = read(*truth())
    assert figures.pop("drift_delta_e_60s") < 0.1
    assert figures.pop("error_delta_e_60s") < 6, "edges are mixed with the background"
    assert set(figures.values()) == {1.0}


def test_a_doubled_frame_at_a_seam_is_a_bad_seam():
    scenes, frames = truth()
    frames = torch.cat([frames[:, :29], frames[:, 28:-1]], dim=1)
    assert read(scenes, frames)["seams_ok_share"] == pytest.approx(1 - 1 / (len(SEAMS) - 1))


def test_a_slow_loss_of_colour_is_drift_and_not_death():
    scenes, frames = truth()
    fading = torch.linspace(1, 0.92, LENGTH)[None, :, None, None, None]
    figures = read(scenes, (frames * fading).byte())
    assert figures["drift_delta_e_60s"] > 0.5
    assert figures["object_alive_60s"] == 1.0


def test_an_object_that_is_gone_is_dead_and_far_off_in_colour():
    scenes, frames = truth()
    empty = frames.flatten(2, 3).median(2).values[:, :, None, None].expand_as(frames)
    frames = torch.cat([frames[:, :20], empty[:, 20:]], dim=1)
    figures = read(scenes, frames)
    assert figures["object_alive_60s"] == 0.0
    assert figures["drift_delta_e_60s"] > 10


@pytest.mark.parametrize("what", ["nothing", "noise of the decoder", "an object that stands still"])
def test_what_does_not_move_has_neither_good_seams_nor_a_kept_direction(what):
    scenes, frames = truth()
    if what == "an object that stands still":
        frames = frames[:, :1].expand_as(frames)
    else:
        frames = frames.flatten(2, 3).median(2).values[:, :, None, None].expand_as(frames)
    if what == "noise of the decoder":
        noise = torch.randint(-3, 4, frames.shape, generator=torch.Generator().manual_seed(1))
        frames = (frames.int() + noise).clamp(0, 255).byte()
    figures = read(scenes, frames)
    assert figures["seams_ok_share"] == 0.0
    assert figures["direction_persistence"] == figures["direction_as_named_60s"] == 0.0


def test_a_turn_is_no_kept_direction():
    scenes, frames = truth()
    frames = torch.cat([frames[:, :27], frames[:, :26].flip(1)], dim=1)
    assert read(scenes, frames)["direction_persistence"] == 0.0


class Autoencoder:
    """Keeps the first frames of a clip as they are and darkens what comes a second before the end."""

    def __init__(self, darkened: float) -> None:
        self.darkened = darkened

    def encode(self, clip: torch.Tensor) -> torch.Tensor:
        return clip

    def decode(self, clip: torch.Tensor) -> torch.Tensor:
        return clip if clip.shape[1] == 13 else clip * (1 - self.darkened)


def test_the_true_videos_drift_as_far_as_the_vae_lets_them():
    scenes, _ = truth()
    exact, fades = (
        true_drift(Autoencoder(d), scenes, first_frames=13, seconds=60.0).mean() for d in (0.0, 0.2)
    )
    assert exact < 0.1
    assert fades > 3
