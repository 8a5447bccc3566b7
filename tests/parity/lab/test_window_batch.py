"""The long-video benchmark's batch against the node's own windows, one clip at a time."""

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.lab import world
from magic141.model_patches.bridge.window.loop import Start, best_of_attempts
from magic141.model_patches.bridge.window.make import WindowSettings
from magic141.model_patches.bridge.window.stream import advance, make_reference, to_uint8
from magic141.tests.bench.support.window_batch import ClipBatch, image_states
from magic141.tests.support.shapes_models import shapes_models

SETTINGS = {"width": 64, "height": 64, "window_latent": 4, "steps": 1, "guidance": None}


@pytest.fixture(scope="module")
def opened():
    with torch.inference_mode():
        return shapes_models()


@pytest.fixture(scope="module")
def scene():
    scenes = world.sample_scenes(1, generator=torch.Generator().manual_seed(5), second_share=0.0)
    return world.render_clip(scenes, 1)[:, 0].movedim(1, -1), world.named_caption(scenes)


def as_the_node(models, settings, plan, start, caption, *, seed):
    """Make the windows as the loop does; return all frames as bytes, and how many windows were made."""
    stream, reference, held, frames, count = None, None, None, [], 0
    for window in plan:
        window = type(window)(**{**vars(window), "prompt": caption})
        made, measures, attempts = best_of_attempts(
            models,
            settings,
            window,
            Start(start),
            stream,
            reference,
            None,
            held=held,
            seed=seed,
            callback=None,
        )
        held = held or (measures["motion_right"], measures["motion_down"])
        count += attempts
        reference = reference or make_reference(made.latent, made.frames)
        stream = advance(models.vae, stream, made, settings.overlap_latent)
        frames.append(to_uint8(made.frames))
    return torch.cat(frames), count


@pytest.mark.parametrize(
    "options",
    [
        {"hand_over": "latent", "overlap_latent": 2, "latent_anchor": 0.5, "cfg": 1.5},
        {"hand_over": "pixel", "overlap_latent": 1, "color_anchor": 0.5, "color_match": "whole picture"},
        {"hand_over": "mixed", "overlap_latent": 2, "first_frame_context": True},
        {
            "hand_over": "latent",
            "overlap_latent": 2,
            "turn_limit": 0.1,
            "reroll_limit": 2,
            "color_anchor": 1.0,
        },
    ],
)
def test_a_batch_of_one_gives_the_nodes_frames(opened, scene, options):
    models, network = opened
    settings = WindowSettings(**SETTINGS, **options)
    with torch.inference_mode():
        batch = ClipBatch(models, network, settings, *scene)
        made = list(batch.windows(seconds=1.4, seed=7))
        plan = [window for window, _ in made]
        wanted, count = as_the_node(models, settings, plan, scene[0], scene[1][0], seed=7)
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
