"""Sample the diffusers twin few-step and score decoded frames against the world, while training."""

import torch
from torch import Tensor

from ...model_patches.sampler import sample_euler
from ...model_patches.schedule import few_step_sigmas
from .. import world
from .data import WINDOW_LATENTS, Dataset, Encoders
from .vae import psnr_db


@torch.no_grad()
def sample(
    model, data: Dataset, *, steps: int, image: bool, still: bool, family: int, seed: int = 0
) -> Tensor:
    """Return (N, 16, T, 8, 8) latents of the whole set: k = 1, Euler, shift 5."""
    length = 1 if still else WINDOW_LATENTS
    clean = data.latents[:, :, :length].float()
    known = torch.zeros_like(clean)
    known[:, :, :1] = clean[:, :, :1]
    mask = torch.zeros_like(clean[:, :1])
    mask[:, :, :1] = 1
    lengths = data.lengths[:, family]
    states = data.states[:, family, : int(lengths.max())].float()
    attention = torch.arange(states.shape[1]) < lengths[:, None]
    if image:
        seen = data.image_states[:, 0].float()
        states = torch.cat([seen, states], 1)
        attention = torch.cat([torch.ones(seen.shape[:2], dtype=torch.bool), attention], 1)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        velocity = model(
            hidden_states=torch.cat([x, known, mask], 1) if image else x,
            timestep=sigma.expand(len(x)) * 1000,
            encoder_hidden_states=states,
            encoder_attention_mask=attention,
            pooled_projections=data.pooled[:, family].float(),
            return_dict=False,
        )[0]
        return x - sigma * velocity

    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return sample_euler(denoise, noise, few_step_sigmas(steps))


@torch.no_grad()
def score(latents: Tensor, data: Dataset, scenes: world.Scenes, *, family: int) -> dict[str, float]:
    """Decode and score; a single latent frame is scored as a picture, more as a clip."""
    frames = Encoders.load_vae().decode(latents)
    truth = world.render_clip(scenes, frames.shape[1])
    if frames.shape[1] == 1:
        reading = world.read_clip(frames)
        right = {
            "colour": reading.colour[:, 0] == scenes.colour,
            "shape": reading.shape[:, 0] == scenes.shape,
            "place": reading.place == scenes.place,
        }
        right["all"] = right["colour"] & right["shape"] & right["place"]
        return {k: round(v.float().mean().item(), 3) for k, v in right.items()}
    scores = world.score_clips(frames, scenes, data.allowed[:, family])
    keys = ("motion_right", "clean", "last_shape_right", "last_colour_right")
    figures = {k: round(scores[k].float().mean().item(), 3) for k in keys}
    return figures | {"first_frame_psnr": round(psnr_db(frames[:, :1], truth[:, :1]).mean().item(), 2)}
