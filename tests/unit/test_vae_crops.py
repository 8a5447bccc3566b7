"""What the autoencoder's training shows it: crops that hold the object, whatever frame they begin with."""

import torch
from magic141.lab import world
from magic141.lab.models.vae import centred_crops

SIDE = 32


def test_the_object_is_in_the_middle_of_a_crop_half_way_through():
    generator = torch.Generator().manual_seed(3)
    scenes = world.sample_scenes(24, generator=generator, split="train", second_share=0.0)
    for first_frame in (0, 19):
        clip = world.render_clip(scenes, 13, first_frame=first_frame)
        crops = centred_crops(clip, scenes, SIDE, generator, first_frame=first_frame, jitter_px=0)
        assert crops.shape == (24, 13, 3, SIDE, SIDE)
        background = torch.tensor(list(world.BACKGROUNDS.values()))[scenes.background]
        mass = (crops[:, 6] - background[..., None, None]).abs().sum(1)
        pixels = torch.arange(SIDE) + 0.5
        x, y = ((mass.sum(axis) * pixels).sum(-1) / mass.sum((-1, -2)) for axis in (-2, -1))
        reach = 4.0  # a triangle's mass is not at its centre
        assert (torch.stack([x, y]) - SIDE / 2).abs().max() < reach
