"""Show what a training came to: the same clips from the model before and after, sampled as in use."""

import comfy.latent_formats
import torch
from torch import Tensor

from ..channels import known_frames_condition
from ..schedule import few_step_sigmas
from .sampling import sample_clip
from .training_watch import side_by_side
from .vae import decode_frames

SEED = 0


@torch.inference_mode()
def compare_clips(before, after, vae, source, config) -> Tensor:
    """Sample the first clips of a data set with two MODELs from the same noise.

    Args:
        source: the clips' conditions (a ``ClipSource``).
        config: how many clips, steps, shift and sampler.
    Returns:
        (T, 2 * H, B * W, 3) in [0, 1]: above the model before, below the model after.
    """
    count = min(config.sample_clips, len(source))
    batch = source.batch(torch.arange(count), torch.Generator().manual_seed(SEED))
    rows = [_sampled_row(model, vae, batch, config) for model in (before, after)]
    return torch.cat(rows, dim=1)


def _sampled_row(model, vae, batch, config) -> Tensor:
    clips = []
    for row in range(len(batch)):
        conditioning, latent = _conditioning(batch, row, config)
        sampled = sample_clip(
            model,
            conditioning,
            conditioning,
            latent,
            sigmas=few_step_sigmas(config.student_steps, config.shift),
            sampler=config.rollout,
            seed=SEED + row,
            callback=lambda *_: None,
        )
        clips.append(decode_frames(vae, sampled).float().cpu())
    return side_by_side(torch.stack(clips))


def _conditioning(batch, row: int, config) -> tuple[list, dict]:
    """Return a clip's conditions in the host's format, and the empty latent to sample."""
    clean = comfy.latent_formats.HunyuanVideo().process_out(batch.latents[row : row + 1])
    num_known = int(batch.num_known[row])
    concat_latent, concat_mask = known_frames_condition(clean[:, :, :num_known], clean.shape[2])
    values = {
        "pooled_output": batch.pooled[row : row + 1],
        "concat_latent_image": concat_latent,
        "concat_mask": concat_mask,
        "guidance": config.embedded_guidance,
    }
    states = batch.states[row : row + 1, batch.mask[row]]
    return [[states, values]], {"samples": torch.zeros_like(clean)}
