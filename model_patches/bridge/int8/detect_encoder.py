"""Find the Linear layers of a text encoder's repeated blocks: the host's own class says which they are."""

from collections.abc import Mapping

import comfy.sd
import torch
from comfy.sd1_clip import SDClipModel
from torch import Tensor, nn

from ...dit.stream import RowReader
from ...dit.weights_file import Header
from ...int8.source import SourceLayout, all_rows, is_companion
from .blocks import block_weights, linear_weights, stand_ins

CPU = torch.device("cpu")
#: Build without memory for weights; nothing is computed.
ON_META = {"initial_device": torch.device("meta"), "load_device": CPU, "offload_device": CPU}


def text_encoder_layout(header: Header) -> SourceLayout | None:
    """Return the layers of a text encoder that the host detects, None if it is something else.

    Raises:
        ValueError: the host opens no int8 file of this encoder, or cannot build it.
    """
    pieces = {k: all_rows(k, info.shape) for k, info in header.tensors.items() if not is_companion(k)}
    weights = stand_ins(header, pieces)
    if (kind := comfy.sd.detect_te_model(weights)) is None:
        return None
    name = f"text encoder {kind.name}"
    if not _opens_int8(weights):
        raise ValueError(
            f"{header.path.name} is a {name}, of which ComfyUI opens no int8 file. Use it as it is."
        )
    try:
        transformers = _build({k: w.to("meta") for k, w in weights.items()} | _tokenizers(header))
    except (KeyError, RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{header.path.name} looks like the {name}, but ComfyUI cannot build that model from it ({error}). It may "
            "be incomplete. Download it again."
        ) from error
    linears = {key for model in transformers for key in linear_weights(model) if key in weights}
    blocks = {key for model in transformers for key in block_weights(model) if key in weights}
    return SourceLayout(name, pieces, frozenset(blocks), frozenset(linears))


def _opens_int8(weights: Mapping[str, Tensor]) -> bool:
    """Say whether the host's loader would recognize quantized layers in such a file."""
    marked = [{**weights, "any.comfy_quant": torch.zeros(1)}]
    options = comfy.sd.t5xxl_detect(marked) | comfy.sd.llama_detect(marked)
    return any(key.endswith("quantization_metadata") for key in options)


def _tokenizers(header: Header) -> dict[str, Tensor]:
    """Return the tokenizers that the file holds as bytes; the host opens them at once."""
    tokenizers = {}
    for file in header.files:
        with RowReader(file) as reader:
            for key, (dtype, shape) in file.tensors.items():
                if dtype == "uint8" and len(shape) == 1 and not is_companion(key):
                    tokenizers[key] = reader.rows(key, 0, shape[0])
    return tokenizers


def _build(weights: dict[str, Tensor]) -> list[nn.Module]:
    is_umt5 = "spiece_model" in weights and "encoder.final_layer_norm.weight" in weights
    kind = comfy.sd.CLIPType.WAN if is_umt5 else comfy.sd.CLIPType.STABLE_DIFFUSION
    clip = comfy.sd.load_text_encoder_state_dicts(
        [weights], clip_type=kind, model_options=dict(ON_META), disable_dynamic=True
    )
    encoders = clip.cond_stage_model.modules()
    return [module.transformer for module in encoders if isinstance(module, SDClipModel)]
