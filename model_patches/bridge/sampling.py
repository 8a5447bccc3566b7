"""Sample one clip: the only path from noise to latent in this pack."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
from .checks import check_clip, check_flow_matching, has_hunyuan_layout
from .loading import fit_input_patches, nan_weights

PreviewCallback = Callable[[int, Tensor, Tensor, int], None]


@dataclass(frozen=True)
class LowNoiseModel:
    """The second of two experts: it makes the steps that begin below ``switch_sigma``."""

    model: comfy.model_patcher.ModelPatcher
    switch_sigma: float


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled.

    Args:
        sigmas: (N + 1,) descending.
        seed: the noise is the host's for this seed, so a clip matches stock samplers.
        sampler: "euler" or "renoise" (fresh noise at every step).
        cfg: strength of the positive over the negative conditioning; 1 calls the model once a step.
        cfg_steps: the first steps that use ``cfg``, the others use 1; 0 for all.
        low_noise: another MODEL for the later steps; None for one MODEL.
    """

    sigmas: Tensor
    seed: int
    sampler: str = "euler"
    cfg: float = 1.0
    cfg_steps: int = 0
    low_noise: LowNoiseModel | None = None


def sample_clip(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    sampling: Sampling,
    *,
    callback: PreviewCallback | None = None,
) -> Tensor:
    """Denoise one clip on a given schedule.

    Args:
        model: a flow-matching MODEL, from any loader.
        positive, negative: CONDITIONING; the negative one is used where ``cfg`` is not 1.
        latent: LATENT with "samples" (B, C, T, H, W), optionally "noise_mask" and "batch_index".
        callback: ``(step, x0, x, total_steps)``; the host's preview and progress bar if None.
    Returns:
        (B, C, T, H, W), in the VAE's scale.
    Raises:
        ValueError: the inputs do not belong together; raised before the model is loaded.
    """
    experts = _share_steps(model, sampling)
    samples = _fit_empty_latent(model, latent)
    for expert, _ in experts:
        check_clip(expert, positive, negative, samples, cfg=sampling.cfg)
    if len(experts) > 1 and latent.get("noise_mask") is not None:
        raise ValueError(
            "The latent has a noise mask, which cannot be kept from one MODEL to the next. Disconnect model_low_noise, "
            "or remove the mask."
        )
    total = len(sampling.sigmas) - 1
    callback = callback or latent_preview.prepare_callback(model, total)
    noise = comfy.sample.prepare_noise(samples, sampling.seed, latent.get("batch_index"))
    with tqdm(total=total, disable=not comfy.utils.PROGRESS_BAR_ENABLED) as bar:
        first = 0
        for expert, sigmas in experts:
            guider = _guider(expert, positive, negative, sampling)
            samples = guider.sample(
                noise,
                samples,
                ksampler(sampling.sampler),
                sigmas,
                denoise_mask=latent.get("noise_mask"),
                callback=_count_steps(callback, bar, first=first),
                disable_pbar=True,
                seed=sampling.seed,
            )
            first += len(sigmas) - 1
            noise = noise * 0.0  # the next expert continues with a latent that holds its noise
    return samples.to(
        comfy.model_management.intermediate_device(), comfy.model_management.intermediate_dtype()
    )


def ksampler(sampler: str) -> comfy.samplers.KSAMPLER:
    """Return one of our samplers as the host's SAMPLER.

    Raises:
        ValueError: no such sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler is {sampler!r}; {' or '.join(SAMPLERS)} is expected.")
    return comfy.samplers.KSAMPLER(_euler if sampler == "euler" else _renoise)


def renoise_seed(seed: int, first_sigma: float) -> int:
    """Return the seed of renoise's fresh noise: 64 bits that belong to no neighbor of ``seed``.

    It also depends on where the schedule begins, so that a schedule that is split in two draws new noise in both.
    """
    digest = hashlib.sha256(f"magic141 renoise {seed} {first_sigma:.6f}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


class _FirstStepsGuider(comfy.samplers.CFGGuider):
    """Use guidance down to a noise level and none below it: with few steps, motion is less slow."""

    def __init__(self, model: comfy.model_patcher.ModelPatcher, last_guided_sigma: float):
        super().__init__(model)
        self.last_guided_sigma = last_guided_sigma

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict | None = None, seed=None
    ) -> Tensor:
        if float(timestep.max()) < self.last_guided_sigma:
            self.set_cfg(1.0)
        return super().predict_noise(x, timestep, model_options or {}, seed)


def _guider(
    model: comfy.model_patcher.ModelPatcher, positive: list, negative: list, sampling: Sampling
) -> comfy.samplers.CFGGuider:
    last_guided = 0.0
    if sampling.cfg_steps:
        last_guided = float(sampling.sigmas[:-1][: sampling.cfg_steps][-1])
    guider = _FirstStepsGuider(model, last_guided)
    guider.set_conds(positive, negative)
    guider.set_cfg(sampling.cfg)
    return guider


def _share_steps(
    model: comfy.model_patcher.ModelPatcher, sampling: Sampling
) -> list[tuple[comfy.model_patcher.ModelPatcher, Tensor]]:
    """Return each expert, ready to sample, with its part of the schedule."""
    sigmas, low_noise = sampling.sigmas, sampling.low_noise
    if low_noise is None:
        return [(_prepared_clone(model), sigmas)]
    num_high = int((sigmas[:-1] >= low_noise.switch_sigma).sum())
    if num_high in (0, len(sigmas) - 1):
        idle = "model_low_noise" if num_high else "model"
        levels = ", ".join(f"{sigma:.4g}" for sigma in sigmas[:-1].tolist())
        raise ValueError(
            f"With switch_sigma {low_noise.switch_sigma:g} {idle} has nothing to do: the steps begin at {levels}. Set "
            "switch_sigma between two of them, raise steps, or disconnect model_low_noise."
        )
    return [
        (_prepared_clone(model), sigmas[: num_high + 1]),
        (_prepared_clone(low_noise.model), sigmas[num_high:]),
    ]


def _prepared_clone(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    model = model.clone()
    if has_hunyuan_layout(model):
        fit_input_patches(model)
    return model


def _count_steps(callback: PreviewCallback, bar: tqdm, *, first: int) -> PreviewCallback:
    """Return a callback that numbers the steps of all experts as one sequence."""

    def show(step: int, x0: Tensor, x: Tensor, _total: int) -> None:
        bar.update()
        callback(first + step, x0, x, int(bar.total))

    return show


@torch.no_grad()
def _euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    with tqdm(total=len(sigmas) - 1, disable=disable) as bar:
        steps = _Steps(model, extra_args, callback, bar)
        return sample_euler(steps.denoise, x, sigmas, callback=steps.report)


@torch.no_grad()
def _renoise(model, x, sigmas, extra_args=None, callback=None, disable=None):
    seed = renoise_seed((extra_args or {}).get("seed") or 0, float(sigmas[0]))
    generator = torch.Generator().manual_seed(seed)
    with tqdm(total=len(sigmas) - 1, disable=disable) as bar:
        steps = _Steps(model, extra_args, callback, bar)
        if steps.noise_scale != 1.0:
            raise ValueError(
                f"This MODEL scales its noise by {steps.noise_scale:g}, which renoise does not support. Choose euler."
            )
        return sample_renoise(steps.denoise, x, sigmas, generator=generator, callback=steps.report)


class _Steps:
    """The host's side of a sampling loop: model call, progress, preview and cancel."""

    def __init__(self, model, extra_args: dict | None, callback: Callable | None, bar: tqdm):
        self.model, self.extra_args, self.callback, self.bar = model, extra_args or {}, callback, bar
        self.patcher = model.inner_model.model_patcher
        self.noise_scale = float(getattr(check_flow_matching(self.patcher), "noise_scale", 1.0))

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        denoised = self.model(x, sigma * x.new_ones(x.shape[0]), **self.extra_args)
        if not denoised.isfinite().all():
            raise ValueError(self._why_not_finite(x))
        return denoised

    def report(self, i: int, x: Tensor, sigma: Tensor, denoised: Tensor) -> None:
        self.bar.update()
        if self.callback is not None:
            self.callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})

    def _why_not_finite(self, x: Tensor) -> str:
        if not x.isfinite().all():
            return (
                "The latent holds NaN or infinity before the model saw it. Check what made it (VAE, noise)."
            )
        weights = self.patcher.model.diffusion_model.named_parameters()
        if (broken := next(nan_weights(weights), None)) is not None:
            return f"The model's weight {broken} holds NaN, so every frame would be NaN. Download the model again."
        return (
            "The model's output is NaN or infinite although its weights are not. Check the conditioning and LoRAs, or"
            " run the model in bf16."
        )


def _fit_empty_latent(model: comfy.model_patcher.ModelPatcher, latent: dict[str, Any]) -> Tensor:
    """Return the samples; an empty latent takes the model's channels and scale, as in the host's own samplers."""
    ratios = (latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal"))
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"], *ratios)
