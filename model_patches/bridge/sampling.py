"""Sample one clip: the only path from noise to latent in this pack."""

from collections.abc import Callable

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..sampler import SAMPLERS, sample_euler, sample_renoise
from .checks import check_clip
from .loading import fit_input_patches, nan_weights


def sample_clip(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    latent: dict,
    *,
    sigmas: Tensor,
    sampler: str = "euler",
    seed: int,
    cfg: float = 1.0,
    disable_noise: bool = False,
    callback: Callable | None = None,
) -> Tensor:
    """Denoise one clip on a given schedule.

    Args:
        model: a MODEL of the HunyuanVideo layout, from any loader.
        positive, negative: CONDITIONING; the negative one is used when ``cfg`` is not 1.
        latent: LATENT with "samples" (B, 16, T, H, W), optionally "noise_mask" and "batch_index".
        sigmas: (N + 1,) descending.
        sampler: "euler" or "renoise" (fresh noise at every step).
        seed: the noise is the host's for this seed, so a clip matches stock samplers.
        disable_noise: start from the latent itself at ``sigmas[0]``.
        callback: ``(step, x0, x, total_steps)``; the host's preview and progress bar if None.
    Returns:
        (B, 16, T, H, W), in the VAE's scale.
    Raises:
        ValueError: the inputs do not belong together; said before the model is loaded.
    """
    latent = {**latent, "samples": _as_video(model, latent["samples"])}
    check_clip(model, positive, negative, latent["samples"], cfg=cfg)
    model = model.clone()
    fit_input_patches(model)
    samples = latent["samples"]
    return comfy.sample.sample_custom(
        model,
        torch.zeros_like(samples) if disable_noise else _noise(latent, seed),
        cfg,
        ksampler(sampler),
        sigmas,
        positive,
        negative,
        samples,
        noise_mask=latent.get("noise_mask"),
        callback=callback or latent_preview.prepare_callback(model, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )


def ksampler(sampler: str) -> comfy.samplers.KSAMPLER:
    """Return the host's SAMPLER around one of ours.

    Raises:
        ValueError: no such sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; {' or '.join(SAMPLERS)} is expected.")
    return comfy.samplers.KSAMPLER(_euler if sampler == "euler" else _renoise)


@torch.no_grad()
def _euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    with _Steps(model, sigmas, extra_args, callback, disable) as steps:
        return sample_euler(steps.denoise, x, sigmas, callback=steps.report)


@torch.no_grad()
def _renoise(model, x, sigmas, extra_args=None, callback=None, disable=None):
    # Another seed than the starting noise's, or the first fresh noise would be the same noise again.
    generator = torch.Generator().manual_seed(((extra_args or {}).get("seed") or 0) + 1)
    with _Steps(model, sigmas, extra_args, callback, disable) as steps:
        return sample_renoise(steps.denoise, x, sigmas, generator=generator, callback=steps.report)


class _Steps:
    """The host's side of a sampling loop: model call, progress, preview and cancel."""

    def __init__(
        self, model, sigmas: Tensor, extra_args: dict | None, callback: Callable | None, disable: bool | None
    ):
        self.model, self.extra_args, self.callback = model, extra_args or {}, callback
        self.progress = tqdm(total=len(sigmas) - 1, disable=disable)

    def __enter__(self) -> "_Steps":
        return self

    def __exit__(self, *error) -> None:
        self.progress.close()

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        denoised = self.model(x, sigma * x.new_ones(x.shape[0]), **self.extra_args)
        if not denoised.isfinite().all():
            raise ValueError(self._why_not_finite(x))
        return denoised

    def report(self, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None:
        self.progress.update()
        if self.callback is not None:
            self.callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})

    def _why_not_finite(self, x: Tensor) -> str:
        if not x.isfinite().all():
            return (
                "The latent holds NaN or infinity before the model saw it. Check what made it (VAE, noise)."
            )
        weights = self.model.inner_model.model_patcher.model.diffusion_model.named_parameters()
        if (broken := next(nan_weights(weights), None)) is not None:
            return f"The model's weight {broken} holds NaN, so every frame would be NaN. Download the model again."
        return (
            "The model's output is NaN or infinite although its weights are not. Check the conditioning and LoRAs, or"
            " run the model in bf16."
        )


def _as_video(model: comfy.model_patcher.ModelPatcher, samples: Tensor) -> Tensor:
    """Let an empty image latent stand for a clip of one frame, as the host's own samplers do."""
    return samples if samples.is_nested else comfy.sample.fix_empty_latent_channels(model, samples)


def _noise(latent: dict, seed: int) -> Tensor:
    return comfy.sample.prepare_noise(latent["samples"], seed, latent.get("batch_index"))
