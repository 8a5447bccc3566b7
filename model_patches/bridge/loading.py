"""Load a checkpoint of the HunyuanVideo layout as the host's MODEL."""

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import comfy.sd
import comfy.utils
import comfy.weight_adapter
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..dit.channels import INPUT_WEIGHT, expand_input_channels, pad_input_channels
from ..dit.checkpoint import T2V_CHANNELS, Checkpoint, identify
from ..dit.keys import host_key
from ..dit.mapping import is_refused_mapping, map_tensors
from ..dit.weights_file import Header, load_torch_zip, read_header
from ..encoders.cancel import loading_until_canceled
from ..int8.check import check_layers
from ..int8.file import read_kept
from ..int8.quanto import from_quanto, is_quanto, native_header
from ..sampler import DEFAULT_SHIFT
from ..store.cancel import until_canceled
from ..store.fields import checked
from ..store.files import read_json
from .dit.from_file import add_lora_at_use, loading_options
from .int8_ops import adopt

#: Where our notes travel with a MODEL through stock nodes.
ATTACHMENT = "magic141"

PREVIEW_SUFFIX = ".preview.json"

#: The choices of the stock loader, and what it tells the host for each.
PRECISIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}

#: Files up to this size are searched for NaN completely; in larger ones only the edges of every weight are.
FULL_CHECK_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Report:
    """What a loaded file is.

    Args:
        kept: names of the layers that were not quantized when this pack quantized the file.
    """

    path: Path
    checkpoint: Checkpoint
    kept: tuple[str, ...] = ()

    @property
    def is_expanded(self) -> bool:
        """Whether the image channels were added by the surgery, so that the model ignores them."""
        return self.checkpoint.in_channels == T2V_CHANNELS

    @property
    def line(self) -> str:
        kept = f"; left as they were when it was quantized: {', '.join(self.kept)}" if self.kept else ""
        return self.checkpoint.describe() + kept


def load_magic141_model(
    path: str | Path, *, precision: str = "default"
) -> tuple[comfy.model_patcher.ModelPatcher, Report]:
    """Load a DiT and make it ready for few-step sampling.

    Args:
        path: a safetensors file or a ``.pth`` with 16, 32 or 33 input channels.
        precision: one of ``PRECISIONS``.
    Returns:
        The MODEL at shift 5, and what was found in the file.
    Raises:
        FileNotFoundError, ValueError: it cannot be used; the message says why.
    """
    header = native_header(read_header(path))
    report = Report(header.path, identify(header), read_kept(header)[0])
    logging.info("Magic141: %s: %s", header.path.name, report.line)
    model = set_shift(_load_patcher(header, report.checkpoint, precision), DEFAULT_SHIFT)
    _use_preview_colors(model, header.path)
    model.cached_patcher_init = (reload_patcher, (str(path), precision))
    model.set_attachments(ATTACHMENT, report)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, ATTACHMENT, _fit_loras_before_sampling)
    return model, report


def reload_patcher(
    path: str, precision: str = "default", disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Load the bare weights again, as the host asks for on a second device."""
    header = native_header(read_header(path))
    return _load_patcher(header, identify(header), precision, disable_dynamic=disable_dynamic)


def set_shift(model: comfy.model_patcher.ModelPatcher, shift: float) -> comfy.model_patcher.ModelPatcher:
    """Return a clone whose own schedule (the one stock KSampler uses) has this shift."""

    class ModelSamplingFewStep(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = ModelSamplingFewStep(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=1000)
    model = model.clone()
    model.add_object_patch("model_sampling", sampling)
    return model


@dataclass(frozen=True)
class PreviewColors:
    """A linear map from latents to RGB in [-1, 1], in the host's form: a row for each channel, and the bias."""

    latent_rgb_factors: list[list[float]]
    latent_rgb_factors_bias: list[float]


def _use_preview_colors(model: comfy.model_patcher.ModelPatcher, path: Path) -> None:
    """Let the live preview use the colors in ``NAME.preview.json`` beside a model whose name starts with NAME.

    Without such a file the preview has HunyuanVideo's colors, which do not fit the latents of another VAE.
    """
    for file in sorted(path.parent.glob(f"*{PREVIEW_SUFFIX}")):
        if not path.name.startswith(file.name.removesuffix(PREVIEW_SUFFIX)):
            continue
        latent_format = model.model.latent_format
        try:
            colors = checked(PreviewColors, read_json(file))
            rows = [*colors.latent_rgb_factors, colors.latent_rgb_factors_bias]
            if [len(row) for row in rows] != [3] * (latent_format.latent_channels + 1):
                raise ValueError(
                    f"{latent_format.latent_channels} rows of 3 numbers and a bias of 3 are needed"
                )
        except (ValueError, OSError) as error:
            logging.warning("Magic141: the preview colors in %s cannot be used: %s.", file.name, error)
            continue
        latent_format.latent_rgb_factors = colors.latent_rgb_factors
        latent_format.latent_rgb_factors_bias = colors.latent_rgb_factors_bias
        return


def nan_weights(weights: Iterator[tuple[str, Tensor]], *, thorough: bool = True) -> Iterator[str]:
    """Yield the names of weights that hold NaN. Not thorough: look at vectors and the edges of matrices only."""
    for name, tensor in until_canceled(weights):
        if not thorough and tensor.ndim > 1:
            tensor = torch.stack([tensor[0].flatten(), tensor[-1].flatten()])
        if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            tensor = tensor.to(torch.bfloat16)
        if tensor.is_floating_point() and tensor.isnan().any():
            yield name


def _load_patcher(
    header: Header, checkpoint: Checkpoint, precision: str, *, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    weights = _read_weights(header, checkpoint)
    thorough = header.path.stat().st_size <= FULL_CHECK_BYTES
    if (broken := next(nan_weights(iter(weights.items()), thorough=thorough), None)) is not None:
        raise ValueError(f"{header.path.name} is broken: {broken} holds NaN. Download or export it again.")
    if checkpoint.in_channels == T2V_CHANNELS:
        weights = expand_input_channels(weights)
    with loading_until_canceled():
        model = comfy.sd.load_diffusion_model_state_dict(
            weights,
            dict(PRECISIONS[precision]) or loading_options(weights),
            disable_dynamic=disable_dynamic,
        )
    if model is None:
        raise ValueError(
            f"{header.path.name} was recognized here ({checkpoint.describe()}) but not by ComfyUI."
        )
    return add_lora_at_use(adopt(model))


def _read_weights(header: Header, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Map the file's weights into memory under the host's names; only the host copies them, once."""
    weights = load_torch_zip(header.path) if header.container == "torch" else _map_safetensors(header)
    if is_quanto(weights):
        weights = from_quanto(weights)
    else:
        weights, _ = comfy.utils.convert_old_quants(
            weights, checkpoint.prefix, metadata=dict(header.metadata)
        )
        weights = dict(_renamed(weights, checkpoint.prefix))
    check_layers(weights, header.path.name)
    return weights


def _map_safetensors(header: Header) -> dict[str, Tensor]:
    """Map a file through the host, whose memory management notes where each weight lies; if refused, map it here."""
    if header.path.suffix.lower() in (".safetensors", ".sft"):
        try:
            weights = comfy.utils.load_torch_file(str(header.path), safe_load=True)
            assert isinstance(weights, dict)
            return weights
        except RuntimeError as error:
            if not is_refused_mapping(error):
                raise
    in_file = read_header(header.path)  # the given one may have a quanto file's names translated
    return map_tensors(header.path, in_file.tensors, in_file.starts)


def _renamed(weights: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in weights.items():
        name = host_key(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if name is not None:
            yield name, tensor


def _fit_loras_before_sampling(executor: Any, *args, **kwargs):
    """OUTER_SAMPLE wrapper: by now every LoRA loader has had its turn, and no weight has been patched yet."""
    fit_input_patches(executor.class_obj.model_patcher)
    return executor(*args, **kwargs)


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
        fitted = _fit_weight(down, (down.shape[0], *shape[1:]), can_pad=mid is None and dora_scale is None)
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


def _fit_weight(weight: Tensor, shape: tuple[int, ...], *, can_pad: bool = True) -> Tensor:
    """Return ``weight`` itself if it has the size, else padded from fewer input channels."""
    rows, channels, *patch = shape
    patch_size = patch[0] * patch[1] * patch[2]
    weight_channels, remainder = divmod(weight[0].numel(), patch_size)
    if weight_channels == channels and remainder == 0:
        return weight
    if not can_pad or remainder or weight_channels > channels:
        raise ValueError(
            f"A LoRA's part for {INPUT_WEIGHT} was made for {weight[0].numel() / patch_size:g} input channels and"
            f" cannot be fitted to this model's {channels}. Use a LoRA of a 16- or {channels}-channel HunyuanVideo."
        )
    return pad_input_channels(weight.reshape(rows, weight_channels, *patch), channels)
