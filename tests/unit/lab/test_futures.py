"""The mean of all futures that an open caption allows, which the embedded image-to-video model is trained on."""

import torch
from magic141.lab import world
from magic141.lab.models.futures import MOST, Futures, allowed_scenes
from magic141.lab.models.source import NAMED, OPEN, Windows
from magic141.lab.world.scenes import held_out
from magic141.model_patches.training.losses import add_noise

ROW = torch.tensor([0])


def futures(*, allowed: list[bool]) -> Futures:
    latents = torch.randn(1, MOST, 16, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Futures(latents, torch.tensor([allowed]), torch.tensor([[8, 0, 3, 5]]))


def mean(several: Futures, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return several.posterior(ROW, noisy, sigma)[0]


def test_pure_noise_says_nothing_of_which_future():
    several = futures(allowed=[True, True, False, False])
    found, motions = (part[0] for part in several.posterior(ROW, torch.randn(1, 16, 4, 8, 8), torch.ones(1)))
    torch.testing.assert_close(found, several.latents[0, :2].mean(0))
    assert motions[[8, 0]].tolist() == [0.5, 0.5]
    assert motions.sum() == 1


def test_little_noise_leaves_one_future():
    several = futures(allowed=[True] * MOST)
    clean, sigma = several.latents[:, 2], torch.tensor([0.3])
    noisy = add_noise(clean, torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)), sigma)
    torch.testing.assert_close(mean(several, noisy, sigma), clean)


def test_between_them_the_mean_is_weighted_by_bayes():
    latents = torch.zeros(1, MOST, 1, 1, 1, 1)
    latents[0, 1] = 1.0
    several = Futures(latents, torch.tensor([[True, True, False, False]]), torch.tensor([[0, 1, 2, 3]]))
    found = mean(several, torch.full((1, 1, 1, 1, 1), 0.4), torch.tensor([0.5]))
    # noisy 0.4 is 0.4 from the first clip's 0.5 * 0 and 0.1 from the second's 0.5 * 1, with deviation 0.5
    first, second = (torch.tensor(-(d**2) / (2 * 0.25)).exp() for d in (0.4, 0.1))
    torch.testing.assert_close(found.flatten()[0], second / (first + second))


def test_no_noise_is_no_division_by_zero():
    several = futures(allowed=[True] * MOST)
    clean = several.latents[:, 1]
    torch.testing.assert_close(mean(several, clean, torch.zeros(1)), clean)


def test_choices_are_the_ways_in_which_allowed_futures_differ():
    several = futures(allowed=[True, True, True, False])
    ways = several.choices(ROW)[0].flatten(1)
    real = ways[ways.norm(dim=1) > 0]
    torch.testing.assert_close(real @ real.T, torch.eye(2), atol=1e-4, rtol=0)
    clips = several.latents[0].flatten(1)
    for apart in (clips[0] - clips[1], clips[1] - clips[2]):
        torch.testing.assert_close((real @ apart) @ real, apart, atol=1e-3, rtol=1e-3)
    assert (real @ (clips[0] - clips[3])).norm() < 0.9 * (clips[0] - clips[3]).norm()


def test_one_future_leaves_no_choice():
    assert not futures(allowed=[False, True, False, False]).choices(ROW).any()


def test_allowed_scenes_are_the_captions_and_none_held_out():
    scenes = world.sample_scenes(200, generator=torch.Generator().manual_seed(3), split="train")
    _, allowed = world.open_caption(scenes, generator=torch.Generator().manual_seed(4))
    candidates, counts = allowed_scenes(scenes, allowed)
    chosen = candidates[counts.flatten()]
    rows = torch.arange(200).repeat_interleave(MOST)[counts.flatten()]
    assert allowed[rows, chosen.motion].all()
    assert not held_out(chosen).any()
    assert (chosen.motion == scenes.motion[rows]).int().sum() == 200  # each scene's own motion is one of them
    missing = allowed.sum(1) - counts.sum(1)
    assert 0 < missing.sum() < 0.3 * allowed.sum()  # the held-out ones alone


def test_futures_are_told_of_open_captions_behind_one_picture_or_none():
    windows = Windows(
        rows=torch.arange(5),
        family=torch.tensor([OPEN, NAMED, OPEN, OPEN, OPEN]),
        start=torch.tensor([0, 0, 1, 0, 0]),
        num_known=torch.tensor([1, 1, 1, 2, 0]),
    )
    assert windows.is_open.tolist() == [True, False, False, False, True]
