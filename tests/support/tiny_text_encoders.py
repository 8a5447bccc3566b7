"""Tiny random text encoders of the kinds that the host opens, as files, and a host that opens them at this size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from magic141.tools.host import use_comfyui
from torch import Tensor

use_comfyui()
import comfy.ops
import comfy.sd
from comfy.sd1_clip import SDClipModel
from comfy.text_encoders.llama import Llama2, Qwen25_7BVLI
from comfy.text_encoders.qwen_vl import Qwen2VLVisionTransformer
from comfy.text_encoders.t5 import T5

from .template_weights import SENTENCES, tokenizer_bytes
from .tiny_families import change_defaults, random_weight

change_defaults(Qwen2VLVisionTransformer, num_layers=1)

T5_SIZES = {"d_model": 64, "d_ff": 96, "d_kv": 16, "num_heads": 4, "num_layers": 2}
T5_CONFIG = T5_SIZES | {
    "dense_act_fn": "gelu_pytorch_tanh", "is_gated_act": True, "model_type": "t5", "vocab_size": 32128,
}  # fmt: skip
UMT5_CONFIG = T5_CONFIG | {"model_type": "umt5", "vocab_size": 300}
LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip
QWEN = LLAMA | {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}
KNOWN_BY = {"encoder.block.23.layer.1.DenseReluDense.wi_1.weight": torch.zeros(10240, 1)}


@dataclass(frozen=True)
class TextEncoder:
    """A kind, the sizes that the host is made to take, and what the stock loader's ``type`` is."""

    kind: type
    config: Mapping[str, Any]
    clip_type: comfy.sd.CLIPType
    num_layers: int
    extra: Callable[[], dict[str, Tensor]] = dict

    def weights(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Return a random state dict in the host's names."""
        generator = torch.Generator().manual_seed(0)
        model = self.kind(dict(self.config), torch.float32, "meta", comfy.ops.disable_weight_init)
        shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        found = {key: random_weight(key, shape, generator) for key, shape in shapes.items()}
        queries = [key for key in found if key.endswith("SelfAttention.q.weight")]
        for key in queries:  # T5 does not scale its scores: its weights begin so small
            found[key] *= self.config["d_kv"] ** -0.5
        if "shared.weight" in found:  # and its embeddings so large
            found["shared.weight"] *= self.config["d_model"] ** 0.5
        return {key: weight.to(dtype) for key, weight in found.items()} | self.extra()

    def open(self, path) -> comfy.sd.CLIP:
        """Return the CLIP that stock Load CLIP makes of a file."""
        return comfy.sd.load_clip([str(path)], clip_type=self.clip_type)


ENCODERS = {
    "umt5": TextEncoder(
        T5, UMT5_CONFIG, comfy.sd.CLIPType.WAN, 14, lambda: KNOWN_BY | {"spiece_model": tokenizer_bytes()}
    ),
    "T5": TextEncoder(T5, T5_CONFIG, comfy.sd.CLIPType.SD3, 14, lambda: KNOWN_BY),
    "LLaMA": TextEncoder(Llama2, LLAMA | {"vocab_size": 128256}, comfy.sd.CLIPType.HIDREAM, 21),
    "Qwen2.5-VL": TextEncoder(Qwen25_7BVLI, QWEN, comfy.sd.CLIPType.QWEN_IMAGE, 21 + 5),
}


def shrink_host(monkeypatch, encoder: TextEncoder) -> None:
    """Have the host build its text encoders at the tiny size; files say little of their size."""
    build = SDClipModel.__init__

    def build_tiny(self, *inputs, model_options=None, **named) -> None:
        options = dict(model_options or {})
        options[f"{options.get('model_name', '')}_model_config"] = dict(encoder.config)
        build(self, *inputs, model_options=options, **named)

    monkeypatch.setattr(SDClipModel, "__init__", build_tiny)


def states(clip: comfy.sd.CLIP) -> Tensor:
    """Return the states of a prompt, those of all layers if there are several, fp32."""
    found = clip.encode_from_tokens(clip.tokenize(SENTENCES), return_dict=True)
    parts = [value for value in found.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return torch.cat([part.float().flatten() for part in parts])
