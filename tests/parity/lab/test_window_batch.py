"""The long-video benchmark's batch against the node's own windows, one clip at a time."""

from dataclasses import replace

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.lab import world
from magic141.model_patches.bridge.window.make import WindowMaker
from magic141.model_patches.store.pictures import to_uint8
from magic141.model_patches.store.video_sink import VideoFormat
from magic141.model_patches.window.plan import num_frames_of
from magic141.model_patches.window.run import Begin, Limits, WindowRun, window_keys
from magic141.model_patches.window.settings import WindowSettings
from magic141.model_patches.window.store import WindowStore
from magic141.tests.bench.support.window_batch import ClipBatch, image_states
from magic141.tests.support.shapes_models import shapes_models

SETTINGS = {"width": 64, "height": 64, "window_length": 13, "steps": 1, "guidance": None, "seed": 7}


@pytest.fixture(scope="module")
def opened():
    with torch.inference_mode():
        return shapes_models()


@pytest.fixture(scope="module")
def scene():
    scenes = world.sample_scenes(1, generator=torch.Generator().manual_seed(5), second_share=0.0)
    return world.render_clip(scenes, 1)[:, 0].movedim(1, -1), world.named_caption(scenes)


def as_the_node(models, settings, plan, start, caption, folder):
    """Make the windows as the node does; return all frames as bytes, and how many windows were made."""
    maker = WindowMaker(models, settings, start)
    windows = [replace(window, prompt=caption) for window in plan]
    keys = window_keys(windows, {})
    limits = Limits(settings.color_anchor, settings.reroll_threshold, settings.turn_limit)
    frames, count = [], 0
    with WindowStore(folder, {}, VideoFormat("ffv1 lossless", 24, 64, 64)) as store:
        run = WindowRun(store, windows, keys, limits, Begin(num_frames_of(settings.overlap)))
        while (window := run.next_window()) is not None:
            best, attempts = run.best(window, maker.make)
            run.finish(window, best, attempts=attempts)
            count += attempts
            frames.append(to_uint8(best.clip.frames))
    return torch.cat(frames), count


@pytest.mark.parametrize(
    "options",
    [
        {"hand_over": "latent", "overlap": 2, "cfg": 1.5},
        {"hand_over": "pixel", "overlap": 1, "color_anchor": 0.5},
        {"hand_over": "latent", "overlap": 2, "turn_limit": 0.1, "color_anchor": 1.0},
    ],
)
def test_a_batch_of_one_gives_the_nodes_frames(opened, scene, options, tmp_path):
    models, network = opened
    settings = WindowSettings(**SETTINGS, **options)
    with torch.inference_mode():
        batch = ClipBatch(models, network, settings, *scene)
        made = list(batch.windows(seconds=1.4, seed=7))
        plan = [window for window, _ in made]
        wanted, count = as_the_node(models, settings, plan, scene[0], scene[1][0], tmp_path)
    frames = torch.cat([frames[0] for _, frames in made])
    assert len(made) >= 3
    assert frames.shape == wanted.shape
    assert batch.attempts == count
    assert (count > len(made)) is bool(settings.turn_limit)
    assert (frames.int() - wanted.int()).abs().max() <= 3


def test_many_pictures_give_the_states_of_each(opened):
    backend = opened[0].encoders.backend
    pictures = torch.randint(256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together = image_states(backend, pictures)
        alone = torch.cat([backend.image_states(list(pair)) for pair in pictures])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-3)
