"""Fit the colors of the embedded models' live preview: a linear map from a latent's 16 channels to RGB."""

import json

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import world
from .shipped import DITS, shipped_vae_weights
from .taehv import Taehv, narrow_network
from .vae import CLIP_FRAMES, psnr_db

PREVIEW = DITS / "magic141_shapes.preview.json"
FIT_SCENES, FIT_SEED, TEST_SCENES = 400, 31, 100


def export_preview() -> dict[str, float]:
    """Fit the map on training scenes, write it beside the embedded DiTs, and measure it on held-out scenes.

    Returns:
        ``preview_psnr_db``.
    """
    vae = narrow_network(shipped_vae_weights())
    latent, rgb = _latents_and_pixels(vae, FIT_SCENES, "train", FIT_SEED)
    with_one = torch.cat([latent, torch.ones(len(latent), 1)], dim=1)
    solution = torch.linalg.lstsq(with_one, 2 * rgb - 1).solution
    rows = [[round(float(value), 4) for value in row] for row in solution]
    PREVIEW.write_text(
        json.dumps({"latent_rgb_factors": rows[:-1], "latent_rgb_factors_bias": rows[-1]}) + "\n",
        encoding="utf-8",
    )
    return {"preview_psnr_db": preview_psnr_db(torch.tensor(rows), vae)}


def preview_psnr_db(rows: Tensor, vae: Taehv, *, seed: int = 32) -> float:
    """Return how near previews come to the decoded frames, shrunk, on held-out scenes.

    Args:
        rows: (17, 3), the factors of each channel and the bias.
    """
    latent, rgb = _latents_and_pixels(vae, TEST_SCENES, "test", seed)
    shown = (latent @ rows[:-1] + rows[-1] + 1) / 2
    per_scene = -1, latent.shape[0] // TEST_SCENES, 3
    return float(psnr_db(shown.view(per_scene), rgb.view(per_scene)).mean())


@torch.no_grad()
def _latents_and_pixels(vae: Taehv, count: int, split: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return (N, 16) values of latents and (N, 3) colors of the decoded frames there, shrunk to the latents' size."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(seed), split=split)
    latent = vae.encode(world.render_clip(scenes, CLIP_FRAMES))
    last_frames = vae.decode(latent).clamp(0, 1)[:, ::4].flatten(0, 1)  # a latent ends with its fourth frame
    rgb = F.interpolate(last_frames, scale_factor=1 / 8, mode="area")
    return latent.permute(0, 2, 3, 4, 1).reshape(-1, 16), rgb.permute(0, 2, 3, 1).reshape(-1, 3)
