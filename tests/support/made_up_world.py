"""A few scenes of the shapes world as a training set, with made-up latents and states."""

import torch
from magic141.lab import world
from magic141.lab.models.data import Dataset
from magic141.tests.support.tiny_dit import TEXT_WIDTH

COUNT = 6
SCENES = world.sample_scenes(COUNT, generator=torch.Generator().manual_seed(0))


def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).half()

    named = torch.nn.functional.one_hot(SCENES.motion, 16).bool()
    _, allowed = world.open_caption(SCENES, generator=generator)
    return Dataset(
        latents=random(COUNT, 16, 7, 8, 8),
        states=random(COUNT, 3, 12, TEXT_WIDTH),
        lengths=torch.randint(4, 13, (COUNT, 3), generator=generator),
        pooled=random(COUNT, 3, 768),
        image_states=random(COUNT, 2, 5, TEXT_WIDTH),
        start=torch.tensor([1, 2, 3, 1, 2, 3]),
        null_states=random(2, TEXT_WIDTH),
        null_pooled=random(768),
        allowed=torch.stack([named, allowed, allowed], 1),
    )
