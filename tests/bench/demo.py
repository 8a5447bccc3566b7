"""The embedded model, measured from decoded frames on held-out captions, and the demo's time and memory.

Everything runs through the pack's own bridge in ComfyUI's code: the same loading, conditioning, four Euler steps at
shift 5, few-step LoRA at cfg 1 (from text alone: no LoRA, cfg 1.5) and decoding that the nodes use and the workflows
set. The demo workflow runs once in a real server.
"""

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

import torch
from magic141.lab import world
from magic141.lab.models.vae import psnr_db
from magic141.tests.support.shapes_models import CFG, MODELS, shapes_models
from magic141.tools.demo import DEFAULT, run_demo
from magic141.tools.host import use_comfyui
from magic141.tools.templates import template
from torch import Tensor

FRAMES, SIDE, STEPS = 13, world.SIDE_PX, 4
T2V_CFG = 1.5


class Pack:
    """The embedded models behind the calls that the nodes make."""

    def __init__(self) -> None:
        use_comfyui()
        models, _ = shapes_models()
        from magic141.model_patches.bridge.loading import load_magic141_model

        self.encoders, self.vae, self.ti2v = models.encoders, models.vae, models.model
        self.t2v, _ = load_magic141_model(MODELS / "diffusion_models" / "magic141_shapes_t2v.safetensors")

    def clip(self, image: Tensor | None, prompt: str, seed: int, *, frames: int = FRAMES) -> Tensor:
        """Return one clip (frames, 3, SIDE, SIDE); with no image, from the text-to-video model."""
        from magic141.model_patches.bridge.encoders.conditioning import (
            ClipRequest,
            image_to_video_conditioning,
        )
        from magic141.model_patches.bridge.sampling import Sampling, sample_clip
        from magic141.model_patches.bridge.vae import decode_frames
        from magic141.model_patches.sampler import few_step_sigmas

        request = ClipRequest(SIDE, SIDE, frames, prompt, images=image)
        positive, negative, latent = image_to_video_conditioning(self.encoders, self.vae, request)
        model, cfg = (self.t2v, T2V_CFG) if image is None else (self.ti2v, CFG)
        sampling = Sampling(few_step_sigmas(STEPS), seed, cfg=cfg)
        samples = sample_clip(model, positive, negative, latent, sampling)
        return decode_frames(self.vae, samples).movedim(-1, 1)

    def round_trip(self, clip: Tensor) -> Tensor:
        """Return (T, 3, H, W) frames encoded and decoded again."""
        from magic141.model_patches.bridge.vae import decode_frames, encode_frames

        return decode_frames(self.vae, encode_frames(self.vae, clip.movedim(1, -1))).movedim(-1, 1)


def animate(pack: Pack, truth: Tensor, captions: list[str]) -> Tensor:
    """Return (N, FRAMES, 3, SIDE, SIDE): every first frame animated by its caption."""
    clips = []
    for index, caption in enumerate(captions):
        clips.append(pack.clip(truth[index, :1].movedim(1, -1), caption, seed=index))
        if (index + 1) % 50 == 0:
            print(f"  {index + 1} of {len(captions)} clips", flush=True)
    return torch.stack(clips)


def from_text(pack: Pack, captions: list[str], *, frames: int = FRAMES) -> Tensor:
    """Return (N, frames, 3, SIDE, SIDE), from captions alone."""
    return torch.stack([pack.clip(None, c, seed=i, frames=frames) for i, c in enumerate(captions)])


def measure_model(pack: Pack, count: int) -> dict[str, float]:
    """Measure motion, fidelity, the shuffled-caption control, the autoencoder, text to image and text to video.

    ``clean`` asks for the right motion, size, straight way and color, and does not look at the shape;
    ``clean_and_right_shape`` also asks for the right shape in the last frame.
    """
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(11), split="test")
    truth, captions = world.render_clip(scenes, FRAMES), world.named_caption(scenes)
    clips = animate(pack, truth, captions)
    scores = world.score_clips(clips, scenes)
    shuffled = world.score_clips(animate(pack, truth, captions[1:] + captions[:1]), scenes)
    reading = world.read_clip(from_text(pack, captions, frames=1))
    drawn = (reading.colour[:, 0] == scenes.colour) & (reading.shape[:, 0] == scenes.shape)
    drawn &= reading.place == scenes.place
    text_scores = world.score_clips(from_text(pack, captions), scenes)
    decoded = torch.stack([pack.round_trip(clip) for clip in truth])
    last = scores["last_shape_right"] & scores["last_colour_right"]
    figures = {
        "motion_accuracy": scores["motion_right"],
        "motion_accuracy_shuffled": shuffled["motion_right"],
        "first_frame_psnr_db": psnr_db(clips[:, 0], truth[:, 0]).mean(),
        "last_frame_shape_colour_accuracy": last,
        "clean_rate": scores["clean"],
        "clean_and_right_shape_rate": scores["clean"] & scores["last_shape_right"],
        "vae_psnr_db": psnr_db(decoded.flatten(0, 1), truth.flatten(0, 1)).mean(),
        "t2i_caption_accuracy": drawn,
        "t2v_motion_accuracy": text_scores["motion_right"],
        "t2v_clean_rate": text_scores["clean"],
        "t2v_clean_and_right_shape_rate": text_scores["clean"] & text_scores["last_shape_right"],
    }
    return {name: value.float().mean().item() for name, value in figures.items()} | {"captions": count}


def measure_demo() -> dict[str, float]:
    """Run the demo workflow in a real server; peak memory is the server's."""
    with tempfile.TemporaryDirectory() as out:
        done = run_demo(template(DEFAULT), Path(out))
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return {"generation_s": done["generation_s"], "peak_rss_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="40 captions instead of 200")
    args = parser.parse_args()
    figures = measure_demo()
    with torch.inference_mode():
        figures |= measure_model(Pack(), 40 if args.quick else 200)
    args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
