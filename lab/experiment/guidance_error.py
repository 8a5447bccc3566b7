"""Compare one forward of a guidance-distilled student with the teacher's two."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...model_patches.training.losses import add_noise, guided
from ...model_patches.training.twin import Conditions, from_host, has_guidance, predict_velocity, takes_image
from ..models.source import HeldOutSource

GUIDANCE_WS = (1.0, 2.0, 4.0, 6.0)
SIGMAS = (0.98, 0.9, 0.7, 0.4)
PREFIX = "cfg_rel_error"
CHUNK = 50


@torch.no_grad()
def guidance_errors(
    teacher: Mapping[str, Tensor], student: Mapping[str, Tensor], source: HeldOutSource
) -> dict[str, float]:
    """Return |u_student - u_guided| / |u_guided - u_cond| for every w of eq. 7, and the largest.

    Norms run over all clips and noise levels, so 0 is the guided teacher and 1 no better than no guidance.
    """
    assert has_guidance(student)
    image, (ours, theirs) = takes_image(teacher), (from_host(student), from_host(teacher))
    error, change = torch.zeros(len(GUIDANCE_WS)), torch.zeros(len(GUIDANCE_WS))
    generator = torch.Generator().manual_seed(0)
    for index in torch.arange(len(source)).split(CHUNK):
        batch = source.batch(index)
        noise = torch.randn(batch.latents.shape, generator=generator)
        for level in SIGMAS:
            sigma = torch.full((len(index),), level)
            noisy = add_noise(batch.latents, noise, sigma)
            plain = sigma.new_ones(len(index))
            prompted = predict_velocity(
                theirs, noisy, sigma, Conditions.of(batch, image=image, guidance=plain)
            )
            empty = Conditions.of(batch, image=image, empty=True, guidance=plain)
            unprompted = predict_velocity(theirs, noisy, sigma, empty)
            for i, w in enumerate(GUIDANCE_WS):
                target = guided(prompted, unprompted, w)
                conditions = Conditions.of(batch, image=image, guidance=torch.full_like(sigma, 1 + w))
                error[i] += (predict_velocity(ours, noisy, sigma, conditions) - target).square().sum()
                change[i] += (target - prompted).square().sum()
    ratios = (error / change).sqrt().tolist()
    named = {f"{PREFIX}_w{w:g}": ratio for w, ratio in zip(GUIDANCE_WS, ratios, strict=True)}
    return {**named, f"{PREFIX}_max": max(ratios)}
