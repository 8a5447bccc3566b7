"""Guidance in the first step only, the remedy for slow motion in few steps: what the embedded teacher gains by it."""

from dataclasses import replace

import torch
from magic141.lab import world
from magic141.lab.world.measure import steps_of
from magic141.tests.support.shapes_models import DIT_FILE, shapes_models
from torch import Tensor

STEPS, FRAMES, CFG = 4, 13, 8.0


def motion_gain(count: int) -> dict[str, float]:
    """Animate held-out scenes by the teacher in four steps, with cfg in the first step and without.

    The captions leave the direction open: a named one leaves nothing to gain. Motion is the mean step of the object's
    center from frame to frame; ``net`` is its way from the first frame to the last, where trembling does not count.
    ``motion_over_truth`` says how slow it is: a model that moves as the scenes do has nothing to gain.
    """
    from magic141.model_patches.bridge.loading import load_magic141_model
    from magic141.model_patches.bridge.sampling import Sampling
    from magic141.model_patches.sampler import few_step_sigmas

    models, _ = shapes_models()
    teacher = replace(models, model=load_magic141_model(DIT_FILE)[0])
    generator = torch.Generator().manual_seed(5142)
    scenes = world.sample_scenes(count, generator=generator, split="test")
    captions, allowed = world.open_caption(scenes, generator=generator)
    plain = Sampling(few_step_sigmas(STEPS), 0)
    ways = {"cfg_1": plain, "cfg_steps": replace(plain, cfg=CFG, cfg_steps=1)}
    figures, motion, net = {}, {}, {}
    truth = steps_of(world.read_clip(world.render_clip(scenes, FRAMES), with_shape="none").centroid_px)
    with torch.inference_mode():
        for name, sampling in ways.items():
            clips = animate(teacher, scenes, captions, sampling)
            steps = steps_of(world.read_clip(clips, with_shape="none").centroid_px)
            motion[name] = float(steps.norm(dim=-1).mean())
            net[name] = float(steps.sum(1).norm(dim=-1).mean())
            clean = world.score_clips(clips, scenes, allowed)["clean"]
            figures[f"clean_rate_{name}"] = float(clean.float().mean())
    gains = {
        "motion_gain_cfg_steps": motion["cfg_steps"] / motion["cfg_1"],
        "net_motion_gain_cfg_steps": net["cfg_steps"] / net["cfg_1"],
        "motion_over_truth_cfg_1": motion["cfg_1"] / float(truth.norm(dim=-1).mean()),
    }
    return gains | figures


def animate(models, scenes: world.Scenes, captions: list[str], sampling) -> Tensor:
    """Return (N, FRAMES, 3, SIDE, SIDE): every scene's first frame animated by its caption."""
    from magic141.model_patches.bridge.encoders.conditioning import ClipRequest, image_to_video_conditioning
    from magic141.model_patches.bridge.sampling import sample_clip
    from magic141.model_patches.bridge.vae import decode_frames

    starts = world.render_clip(scenes, 1)[:, 0].movedim(1, -1)
    clips = []
    for seed, (start, caption) in enumerate(zip(starts, captions, strict=True)):
        request = ClipRequest(world.SIDE_PX, world.SIDE_PX, FRAMES, caption, images=start[None])
        conditions = image_to_video_conditioning(models.encoders, models.vae, request)
        samples = sample_clip(models.model, *conditions, replace(sampling, seed=seed))
        clips.append(decode_frames(models.vae, samples).movedim(-1, 1))
    return torch.stack(clips)
