"""Stage ``vae``: the autoencoder, on 32x32 crops around the object for most of the run, then on whole frames."""

import torch
from torch import Tensor

from ...model_patches.training.parallel import this_process
from .. import world
from ..world.measure import contrast
from .muon import optimizers
from .run import Log, Run
from .taehv import Taehv

CLIP_FRAMES = 13  # evaluation and the decoder's own stage
TRAIN_FRAMES = 5
LATENT_NOISE = 0.05
MOMENT_WEIGHT = 0.02
CROP_PX, CROP_SHARE = 32, 0.88
CANDIDATES = 8
"""So many scenes are drawn for each one the decoder is trained on; low contrast is chosen more often."""
DECODER_CROPS = (0.25, 0.9)
"""The part of its run in which the decoder learns from crops: objects are small, and it is worst at edges."""


def centred_crops(
    clip: Tensor,
    scenes: world.Scenes,
    side_px: int,
    generator: torch.Generator,
    *,
    first_frame: int,
    jitter_px: float,
) -> Tensor:
    """Roll every clip on the torus so that the object is near the middle of a side_px crop half-way through."""
    middle = scenes.start_px + scenes.velocity_px * (first_frame + clip.shape[1] // 2)
    jitter = (2 * torch.rand(len(scenes), 2, generator=generator) - 1) * jitter_px
    corner = (middle + jitter - side_px / 2).round().long()
    rolled = [torch.roll(c, (-int(y), -int(x)), (-2, -1)) for c, (x, y) in zip(clip, corner, strict=True)]
    return torch.stack(rolled)[..., :side_px, :side_px].contiguous()


def faint_scenes(count: int, generator: torch.Generator, *, second_share: float) -> world.Scenes:
    """Draw training scenes, most often those whose object's colour is near the background's.

    Green on gray is a thirty-second of all scenes and hardly counts in the loss: with uniform scenes, the decoder makes
    such an object jump every second frame and stand still between.
    """
    drawn = world.sample_scenes(
        CANDIDATES * count, generator=generator, split="train", second_share=second_share
    )
    return drawn[torch.multinomial(1 / contrast(drawn), count, generator=generator)]


def random_clips(
    scenes: world.Scenes,
    num_frames: int,
    generator: torch.Generator,
    *,
    jitter_px: float | None,
) -> Tensor:
    """Draw the scenes from a random first frame on: whole, or with ``jitter_px`` crops of their objects."""
    start = int(torch.randint(24, (1,), generator=generator))
    clip = world.render_clip(scenes, num_frames, first_frame=start)
    if jitter_px is None:
        return clip
    return centred_crops(clip, scenes, CROP_PX, generator, first_frame=start, jitter_px=jitter_px)


def moment_loss(latent: Tensor) -> Tensor:
    """Penalise each channel's mean and its log standard deviation: latents of zero mean and unit scale."""
    per_channel = latent.transpose(0, 1).flatten(1)
    return per_channel.mean(1).square().mean() + per_channel.std(1).clamp_min(1e-4).log().square().mean()


def psnr_db(a: Tensor, b: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of images in [0, 1], over everything but the first axis."""
    return -10 * (a.clamp(0, 1) - b).square().flatten(1).mean(1).clamp_min(1e-10).log10()


def train(total: int = 2600, batch: int = 8) -> Taehv:
    """Train for ``total`` steps, resuming from the cache."""
    torch.manual_seed(0)
    model = Taehv()
    run = Run("vae", total, {"vae": model}, optimizers(model, lr=5e-3, adam_lr=2e-3), ema_decay=0.998)
    log = Log("vae", 100)
    for step in run.steps():
        generator = torch.Generator().manual_seed(step)
        whole = step >= total * CROP_SHARE
        count = batch // 2 if whole else batch
        jitter_px = None if whole else CROP_PX / 2
        scenes = world.sample_scenes(count, generator=generator, split="train", second_share=0.3)
        clip = random_clips(scenes, TRAIN_FRAMES, generator, jitter_px=jitter_px)
        latent = model.encode(clip)
        error = model.decode(latent + LATENT_NOISE * torch.randn_like(latent)) - clip
        moments = moment_loss(latent)
        loss = error.abs().mean() + 4 * error.square().mean() + MOMENT_WEIGHT * moments
        run.update(loss)
        log(
            step,
            loss=loss.detach(),
            psnr=-10 * error.detach().square().mean().log10(),
            moments=moments.detach(),
        )
    model.load_state_dict(run.ema["vae"].shadow)
    return model.eval()


def train_decoder(model: Taehv, total: int = 7000, batch: int = 4) -> Taehv:
    """Train the decoder further with a fixed encoder, so that the latents other stages learned from do not change.

    Args:
        batch: clips of whole frames per step, of all processes together; four times as many of crops.
    """
    torch.manual_seed(1)
    model.encoder.requires_grad_(False)
    run = Run(
        "vae_decoder",
        total,
        {"vae": model.decoder},
        optimizers(model.decoder, lr=2e-3, adam_lr=5e-4),
        ema_decay=0.99,
    )
    log = Log("vae_decoder", 100)
    place = this_process()
    for step in run.steps():
        generator = torch.Generator().manual_seed(1_000_000 + step + 10_000_000 * place.rank)
        cropped = DECODER_CROPS[0] <= step / total < DECODER_CROPS[1]
        count = (4 * batch if cropped else batch) // place.size
        jitter_px = CROP_PX / 4 if cropped else None
        scenes = faint_scenes(count, generator, second_share=0.2)
        clip = random_clips(scenes, CLIP_FRAMES, generator, jitter_px=jitter_px)
        with torch.no_grad():
            latent = model.encode(clip)
        error = model.decode(latent + 0.5 * LATENT_NOISE * torch.randn_like(latent)) - clip
        run.update(error.abs().mean() + 10 * error.square().mean())
        log(step, psnr=-10 * error.detach().square().mean().log10())
    model.decoder.load_state_dict(run.ema["vae"].shadow)
    return model.eval()


@torch.no_grad()
def evaluate(model: Taehv, count: int = 64) -> dict[str, float]:
    """Measure round trips of held-out clips."""
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(9), split="test")
    clip = world.render_clip(scenes, CLIP_FRAMES)
    latent = model.encode(clip)
    decoded = model.decode(latent)
    scores = world.score_clips(decoded, scenes)
    return {
        "vae_psnr_db": psnr_db(decoded, clip).mean().item(),
        "first_frame_psnr_db": psnr_db(decoded[:, :1], clip[:, :1]).mean().item(),
        "clean_rate": scores["clean"].float().mean().item(),
        "shape_right": scores["last_shape_right"].float().mean().item(),
        "latent_std": latent.std().item(),
        "latent_channel_std_min": latent.transpose(0, 1).flatten(1).std(1).min().item(),
        "latent_channel_std_max": latent.transpose(0, 1).flatten(1).std(1).max().item(),
    }
