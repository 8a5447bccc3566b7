"""Record how the host calls a diffusion model in one step of sampling, and repeat that call."""

from dataclasses import dataclass
from typing import Any, cast

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscreteFlow
from torch import Tensor

from ...encoders.cancel import checking_between_layers

#: Where in the schedule the step lies, as a share of it: most of the picture is decided there.
SHARE_OF_STEPS = 0.2
SIDE, FRAMES = 16, 2


@dataclass(frozen=True)
class Call:
    """Arguments of a diffusion model's forward; tensors of type ``dtype`` are cast to that of the model they go to."""

    inputs: tuple
    named: dict[str, Any]
    dtype: torch.dtype

    def run(self, patcher: ModelPatcher) -> Any:
        """Return the output of the MODEL's diffusion model; the MODEL is loaded already."""
        device, dtype = patcher.load_device, patcher.model.get_dtype_inference()

        def moved(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(map(moved, value))
            if not isinstance(value, Tensor):
                return value
            wanted = dtype if value.dtype == self.dtype else value.dtype
            return value.to(device, wanted, copy=True)  # a forward may write into what it is given

        model = patcher.model.diffusion_model
        with checking_between_layers(model):
            return model(*map(moved, self.inputs), **{k: moved(value) for k, value in self.named.items()})


def record_call(patcher: ModelPatcher, positive: list, *, seed: int, latent: dict | None = None) -> Call:
    """Sample one step from noise and return what the diffusion model was called with.

    Args:
        positive: the host's CONDITIONING for this model.
        latent: the host's LATENT, whose size counts; without it a small one of the model's own format.
    """
    start = small_latent(patcher) if latent is None else latent["samples"]
    start = comfy.sample.fix_empty_latent_channels(patcher, start)
    noise = comfy.sample.prepare_noise(start, seed)
    sampling = cast(ModelSamplingDiscreteFlow, patcher.get_model_object("model_sampling"))
    sigma = sampling.percent_to_sigma(SHARE_OF_STEPS)
    calls: list[tuple] = []
    hook = patcher.model.diffusion_model.register_forward_pre_hook(
        lambda _module, inputs, named: calls.append((inputs, named)), with_kwargs=True
    )
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(positive, positive)
    guider.set_cfg(1.0)
    with hook, checking_between_layers(patcher.model.diffusion_model):
        guider.sample(
            noise,
            start,
            comfy.samplers.sampler_object("euler"),
            torch.tensor([float(sigma), 0.0]),
            disable_pbar=True,
            seed=seed,
        )
    return Call(*calls[0], dtype=patcher.model.get_dtype_inference())


def small_latent(patcher: ModelPatcher) -> Tensor:
    """Return an empty latent of the model's own format."""
    kind = patcher.model.latent_format
    frames = (FRAMES,) if kind.latent_dimensions == 3 else ()
    sides = (SIDE,) * min(2, kind.latent_dimensions)
    return torch.zeros(1, kind.latent_channels, *frames, *sides)
