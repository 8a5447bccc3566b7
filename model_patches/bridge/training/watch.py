"""Show a training while it runs: progress bar, curves and sample clips as preview, time left as text."""

import time
from collections.abc import Callable
from pathlib import Path

import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.sd import VAE
from PIL import Image
from torch import Tensor

from ...dit.channels import known_frames_condition
from ...plots import frame_strips, plot_training, stacked
from ...sampler import few_step_sigmas
from ...store.files import make_subfolder
from ...store.video_sink import VideoFormat, write_segment
from ...training.batch import ClipSource, TrainingBatch
from ...training.config import DistillConfig
from ...training.trainer import StepReport
from ..progress import duration_text, send_text
from ..sampling import Sampling, sample_clip
from ..vae import decode_frames

PREVIEW_SECONDS = 3.0
PREVIEW_PX = 1024


class TrainingWatch:
    """Shows a run on its node; the trainer calls ``on_step``.

    Args:
        run_dir: sample clips are kept there, as ``samples/step-000020.mp4``.
        vae: decodes them.
        fps: of the sample clips.
        read_log: returns the rows of the run so far, including this step's.
        node_id: the node that shows the text, or None.
    """

    def __init__(
        self,
        run_dir: Path,
        vae: VAE,
        *,
        fps: float,
        read_log: Callable[[], list[dict]],
        node_id: str | None,
    ) -> None:
        self.run_dir, self.vae, self.fps, self.node_id = run_dir, vae, fps, node_id
        self._read_log = read_log
        self.history: list[dict] = []
        self.first_step = 0
        self._strips = None
        self._canceled = False
        self._bar: comfy.utils.ProgressBar | None = None
        self.seconds = 0.0
        self._started = self._previewed = time.monotonic()

    def on_step(self, report: StepReport) -> None:
        """Take a step of the trainer (its ``StepReport``).

        A cancel is only noted: the trainer asks ``should_stop`` next, and saves a checkpoint first.
        """
        if self.should_stop():
            return
        try:
            self._show(report)
        except comfy.model_management.InterruptProcessingException:
            self._canceled = True

    def should_stop(self) -> bool:
        """Say whether the run was canceled."""
        return self._canceled or comfy.model_management.processing_interrupted()

    def raise_if_canceled(self) -> None:
        """Pass a cancel on to the host, after all is saved."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._canceled:
            raise comfy.model_management.InterruptProcessingException

    def _show(self, report: StepReport) -> None:
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(report.total, node_id=self.node_id)
            self.history, self.first_step = self._read_log(), report.step - 1
        else:
            self.history.append({"step": report.step, "motion": report.motion, **report.losses})
        if report.samples is not None:
            self._strips = frame_strips(self._decode_and_keep(report.samples, report.step))
        self._tell(report)
        self._bar.update_absolute(report.step, preview=self._preview(report))

    def _decode_and_keep(self, samples: Tensor, step: int) -> Tensor:
        """Decode sample latents (B, 16, T, h, w), write them side by side as a video, and return their frames."""
        clips = decode_clips(self.vae, samples)
        folder = make_subfolder(self.run_dir, "samples")
        frames = side_by_side(clips)
        size = VideoFormat("h264", self.fps, frames.shape[2], frames.shape[1])
        write_segment(folder / f"step-{step:06d}{size.suffix}", frames, size)
        return clips

    def _preview(self, report: StepReport) -> tuple[str, Image.Image, int] | None:
        """Return the picture of a step for the host's bar, or None if one was shown a moment ago."""
        now = time.monotonic()
        if now - self._previewed < PREVIEW_SECONDS and report.samples is None and report.step < report.total:
            return None
        self._previewed = now
        curves = plot_training(self.history, total_steps=report.total)
        sheet = curves if self._strips is None else stacked([curves, self._strips])
        return ("JPEG", sheet, PREVIEW_PX)

    def _tell(self, report: StepReport) -> None:
        num_done = report.step - self.first_step
        self.seconds = time.monotonic() - self._started
        left = self.seconds / num_done * (report.total - report.step)
        parts = [f"step {report.step} of {report.total}"]
        parts += [f"{name} {value:.4g}" for name, value in report.losses.items()]
        if report.motion is not None:
            parts.append(f"motion {report.motion:.2f}")
        if num_done > 1 and report.step < report.total:
            parts.append(f"about {duration_text(left)} left")
        send_text(", ".join(parts), self.node_id)


@torch.inference_mode()
def decode_clips(vae: VAE, latents: Tensor) -> Tensor:
    """Decode latents as the model makes them (B, 16, T, h, w), a clip at a time: (B, frames, H, W, 3) in [0, 1]."""
    unscaled = comfy.latent_formats.HunyuanVideo().process_out(latents)
    return torch.stack([decode_frames(vae, clip[None]).float().cpu() for clip in unscaled])


def side_by_side(clips: Tensor) -> Tensor:
    """Return clips (B, T, H, W, 3) as one clip (T, H, B * W, 3)."""
    return torch.cat(list(clips), dim=2)


SEED = 0


@torch.inference_mode()
def compare_clips(
    before: comfy.model_patcher.ModelPatcher,
    after: comfy.model_patcher.ModelPatcher,
    vae: VAE,
    source: ClipSource,
    config: DistillConfig,
) -> Tensor:
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


def _sampled_row(
    model: comfy.model_patcher.ModelPatcher, vae: VAE, batch: TrainingBatch, config: DistillConfig
) -> Tensor:
    clips = []
    for row in range(len(batch)):
        conditioning, latent = _conditioning(batch, row, config)
        sampling = Sampling(few_step_sigmas(config.few_steps, config.shift), SEED + row, config.sampler)
        sampled = sample_clip(model, conditioning, conditioning, latent, sampling, callback=lambda *_: None)
        clips.append(decode_frames(vae, sampled).float().cpu())
    return side_by_side(torch.stack(clips))


def _conditioning(batch: TrainingBatch, row: int, config: DistillConfig) -> tuple[list, dict]:
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
