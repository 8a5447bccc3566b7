"""Score decoded latents against the world, while training."""

import torch
from torch import Tensor

from .. import world
from .data import Dataset, Encoders
from .vae import psnr_db


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
