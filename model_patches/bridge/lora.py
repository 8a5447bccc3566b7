"""Make LoRAs of the 16-channel model fit the 33-channel one.

Only ``img_in`` differs. A LoRA's part for it is padded with zeros over the image channels, as the surgery pads the
weight itself; without this the host logs a shape error and leaves the part out.
"""

import uuid

import comfy.model_patcher
import comfy.weight_adapter
from torch import Tensor

from ..channels import INPUT_WEIGHT, pad_input_channels

INPUT_KEY = f"diffusion_model.{INPUT_WEIGHT}"


def fit_input_patches(patcher: comfy.model_patcher.ModelPatcher) -> None:
    """Pad the patches of ``img_in`` to the model's input channels, in place.

    Raises:
        ValueError: a patch is of a kind or size that cannot be padded.
    """
    if INPUT_KEY not in patcher.patches:
        return
    shape = tuple(patcher.model.diffusion_model.img_in.proj.weight.shape)
    old = patcher.patches[INPUT_KEY]
    new = [(strength, _fit(value, shape), *rest) for strength, value, *rest in old]
    if any(a[1] is not b[1] for a, b in zip(old, new, strict=True)):
        patcher.patches[INPUT_KEY] = new
        patcher.patches_uuid = uuid.uuid4()  # tells the host to patch the weights again


def _fit(value, shape: tuple[int, ...]):
    if isinstance(value, comfy.weight_adapter.LoRAAdapter):
        up, down, alpha, mid, dora_scale, reshape = value.weights
        fitted = _fit_weight(down, (down.shape[0], *shape[1:]), plain=mid is None and dora_scale is None)
        if fitted is down:
            return value
        return comfy.weight_adapter.LoRAAdapter(
            value.loaded_keys, (up, fitted, alpha, mid, dora_scale, reshape)
        )
    if isinstance(value, tuple) and value and value[0] == "diff":
        diff, *options = value[1]
        fitted = _fit_weight(diff, shape)
        return value if fitted is diff else ("diff", (fitted, *options))
    return value


def _fit_weight(weight: Tensor, shape: tuple[int, ...], *, plain: bool = True) -> Tensor:
    """Return ``weight`` itself if it has the size, else padded from fewer input channels."""
    rows, channels, *patch = shape
    patch_size = patch[0] * patch[1] * patch[2]
    found, remainder = divmod(weight[0].numel(), patch_size)
    if found == channels and remainder == 0:
        return weight
    if not plain or remainder or found > channels:
        raise ValueError(
            f"A LoRA's part for {INPUT_WEIGHT} was made for {weight[0].numel() / patch_size:g} input channels and"
            f" cannot be fitted to this model's {channels}. Use a LoRA of a 16- or {channels}-channel HunyuanVideo."
        )
    return pad_input_channels(weight.reshape(rows, found, *patch), channels)
