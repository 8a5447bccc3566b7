"""Tiny random models of many families that the host detects, made by the host's own classes.

Each is so small as its family's detection allows: widths that the host reads off the shapes are tiny, widths that
it fixes by name are as they are.
"""

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from magic141.tools.host import use_comfyui
from torch import Tensor

use_comfyui()
import comfy.ops
import comfy.supported_models as supported
from comfy.ldm.lumina.model import NextDiT
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel

TIMESTEP = 700.0
VIDEO, IMAGE = (2, 4, 4), (8, 8)


@dataclass(frozen=True)
class Family:
    """A model's size, as the host's detection returns it, and what its forward takes beside noise and text."""

    kind: type
    config: Mapping[str, Any]
    latent: tuple[int, ...]
    text_width: int
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    sound: tuple[int, ...] | None = None

    def weights(self, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Return a random state dict in the host's names, of the spread of a trained network."""
        generator = torch.Generator().manual_seed(seed)
        return {
            key: (random_weight(key, tuple(stand_in.shape), generator)).to(dtype)
            for key, stand_in in self.module(device="meta").state_dict().items()
        }

    def module(self, *, device: str) -> torch.nn.Module:
        """Return the host's module."""
        config = self.kind(dict(self.config))
        config.set_inference_dtype(torch.float32, None)
        config.custom_operations = comfy.ops.disable_weight_init
        return config.get_model({}, "", device=torch.device(device)).diffusion_model

    def output(self, patcher, *, seed: int = 1) -> Tensor:
        """Return the MODEL's output for noise and text of a seed, fp32."""
        generator = torch.Generator().manual_seed(seed)
        dtype = patcher.model.get_dtype_inference()

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(dtype)

        noise, text = normal(1, *self.latent), normal(1, 6, self.text_width)
        if self.sound is not None:
            noise = [noise, normal(1, *self.sound)]
        extra = {name: normal(*shape) if shape else text.shape[1] for name, shape in self.inputs.items()}
        with torch.inference_mode():
            output = patcher.model.diffusion_model(noise, torch.full((1,), TIMESTEP), text, **extra)
        parts = output if isinstance(output, (tuple, list)) else [output]
        return torch.cat([part.float().flatten() for part in parts])


def random_weight(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if len(shape) <= 1 or "modulation" in key.split(".")[-1] or "scale_shift_table" in key:
        is_gain = "norm" in key and key.endswith((".weight", ".scale"))
        return values * 0.1 + (1.0 if is_gain else 0.0)
    return values / max(1, values[0].numel()) ** 0.5


HUNYUAN = {
    "image_model": "hunyuan_video", "patch_size": [1, 2, 2], "out_channels": 16, "vec_in_dim": 768,
    "axes_dim": [16, 56, 56], "meanflow": False, "context_in_dim": 64, "hidden_size": 128, "mlp_ratio": 4.0,
    "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "theta": 256, "qkv_bias": True, "byt5": False,
    "guidance_embed": False, "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
FLUX = {
    "image_model": "flux", "axes_dim": [16, 56, 56], "num_heads": 1, "mlp_ratio": 4.0, "theta": 10000,
    "out_channels": 16, "qkv_bias": True, "txt_ids_dims": [], "in_channels": 16, "hidden_size": 128,
    "context_in_dim": 64, "patch_size": 2, "vec_in_dim": 32, "depth": 1, "depth_single_blocks": 2,
    "guidance_embed": True, "yak_mlp": False, "txt_norm": False,
}  # fmt: skip
WAN = {
    "image_model": "wan2.1", "dim": 128, "out_dim": 16, "num_heads": 1, "ffn_dim": 192, "num_layers": 2,
    "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True,
    "eps": 1e-6, "in_dim": 16, "model_type": "t2v",
}  # fmt: skip
HUNYUAN15 = {
    "vec_in_dim": None, "byt5": True, "use_cond_type_embedding": True, "vision_in_dim": 1152, "meanflow_sum": True,
    "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1],
}  # fmt: skip
FLUX2 = {
    "image_model": "flux2", "axes_dim": [32, 32, 32, 32], "mlp_ratio": 3.0, "theta": 2000, "out_channels": 128,
    "global_modulation": True, "mlp_silu_act": True, "qkv_bias": False, "ops_bias": False,
    "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3], "in_channels": 128,
    "vec_in_dim": None, "patch_size": 1,
}  # fmt: skip
SD3 = {
    "in_channels": 16, "patch_size": 2, "out_channels": 16, "depth": 2, "input_size": None, "adm_in_channels": 64,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 64, "out_features": 128}},
    "num_patches": 1024, "pos_embed_max_size": 32, "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [],
}  # fmt: skip
COGVIDEO = {
    "image_model": "cogvideox", "num_attention_heads": 2, "attention_head_dim": 64, "time_embed_dim": 64,
    "num_layers": 2, "in_channels": 16, "patch_size": 2, "text_embed_dim": 64,
    "use_learned_positional_embeddings": False, "use_rotary_positional_embeddings": True,
}  # fmt: skip
LENS = {
    "image_model": "lens", "in_channels": 64, "out_channels": 16, "num_layers": 2, "num_attention_heads": 2,
    "enc_hidden_dim": 64, "multi_layer_encoder_feature": False, "selected_layer_index": (0,),
}  # fmt: skip
LTX = {"image_model": "ltxv", "num_layers": 2, "attention_head_dim": 4, "cross_attention_dim": 128}
KANDINSKY = {
    "image_model": "kandinsky5", "model_dim": 1792, "axes_dims": (16, 24, 24), "time_dim": 64, "ff_dim": 256,
    "visual_embed_dim": 132, "num_text_blocks": 1, "num_visual_blocks": 1,
}  # fmt: skip
HUNYUAN3D = {
    "image_model": "hunyuan3d2", "in_channels": 64, "context_in_dim": 64, "hidden_size": 256, "mlp_ratio": 4.0,
    "num_heads": 16, "depth": 1, "depth_single_blocks": 1, "qkv_bias": True, "guidance_embed": False,
}  # fmt: skip

LTX_SIZES = {
    "audio_attention_head_dim": 4, "audio_cross_attention_dim": 128, "caption_channels": 64,
    "connector_attention_head_dim": 32, "connector_num_attention_heads": 2, "connector_num_layers": 1,
    "audio_connector_attention_head_dim": 32, "audio_connector_num_attention_heads": 2,
}  # fmt: skip
MINIMAX = {
    "image_model": "minimax_h3", "num_layers": 2, "token_refiner_num_layers": 1, "hidden_size": 128,
    "latents_dim": 24, "audio_latents_dim": 32, "attention_head_dim": 64, "num_attention_heads": 2,
    "ffn_hidden_size": 192, "text_dim": 64, "timestep_input_dim": 64, "time_embed_hidden_size": 64,
    "time_embed_dim": 64, "rope_inv_freq_len": 8,
}  # fmt: skip
QWEN = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 2}
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "cap_feat_dim": 64, "n_layers": 1, "qk_norm": True,
}  # fmt: skip
Z_IMAGE = {
    "dim": 3840, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0, "ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0,
}  # fmt: skip


def change_defaults(kind: type, **sizes: int) -> None:
    """Change sizes that a class of the host fixes as the defaults of its constructor."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.default is not parameter.empty
    }
    kind.__init__.__defaults__ = tuple((defaults | sizes).values())


change_defaults(QwenImageTransformer2DModel, num_attention_heads=1, joint_attention_dim=64)
change_defaults(NextDiT, n_refiner_layers=1)

FAMILIES: dict[str, Family] = {
    "HunyuanVideo": Family(
        supported.HunyuanVideo, HUNYUAN | {"in_channels": 16}, (16, *VIDEO), 64, {"y": (1, 768)}
    ),
    "HunyuanVideo I2V": Family(
        supported.HunyuanVideoI2V, HUNYUAN | {"in_channels": 33}, (33, *VIDEO), 64, {"y": (1, 768)}
    ),
    "HunyuanVideo 1.5": Family(supported.HunyuanVideo15, HUNYUAN | HUNYUAN15, (65, *VIDEO), 64),
    "HunyuanImage 2.1": Family(
        supported.HunyuanImage21,
        HUNYUAN
        | {
            "patch_size": [1, 1],
            "axes_dim": [64, 64],
            "in_channels": 64,
            "out_channels": 64,
            "vec_in_dim": None,
        },
        (64, *IMAGE),
        64,
    ),
    "Flux 1": Family(supported.Flux, FLUX, (16, *IMAGE), 64, {"y": (1, 32), "guidance": (1,)}),
    "Flux 2": Family(supported.Flux2, FLUX | FLUX2, (128, *IMAGE), 64, {"guidance": (1,)}),
    "SD3": Family(supported.SD3, SD3, (16, *IMAGE), 64, {"y": (1, 64)}),
    "Wan 2.1": Family(supported.WAN21_T2V, WAN, (16, *VIDEO), 4096),
    "Wan 2.1 I2V": Family(
        supported.WAN21_I2V,
        WAN | {"model_type": "i2v", "in_dim": 36},
        (36, *VIDEO),
        4096,
        {"clip_fea": (1, 5, 1280)},
    ),
    "Wan 2.2 I2V": Family(supported.WAN21_T2V, WAN | {"in_dim": 36}, (36, *VIDEO), 4096),
    "Wan 2.2 5B": Family(supported.WAN22_T2V, WAN | {"in_dim": 48, "out_dim": 48}, (48, *VIDEO), 4096),
    "CogVideoX": Family(supported.CogVideoX_T2V, COGVIDEO, (16, *VIDEO), 64),
    "LTX-Video": Family(supported.LTXV, LTX, (128, *VIDEO), 4096, {"attention_mask": (1, 6)}),
    "LTX-2": Family(
        supported.LTXAV,
        LTX | {"image_model": "ltxav"} | LTX_SIZES,
        (128, *VIDEO),
        128,
        {"attention_mask": (1, 6)},
        {"config": json.dumps({"transformer": LTX_SIZES})},
        (8, 5, 16),
    ),
    "MiniMax H3": Family(supported.MiniMaxH3, MINIMAX, (24, *VIDEO), 64, sound=(32, 2, 5)),
    "Qwen-Image": Family(supported.QwenImage, QWEN, (16, 1, *IMAGE), 64),
    "Lens": Family(supported.Lens, LENS, (64, *IMAGE), 64),
    "Kandinsky 5": Family(supported.Kandinsky5, KANDINSKY, (33, *VIDEO), 3584, {"y": (1, 768)}),
    "Hunyuan3D 2": Family(supported.Hunyuan3Dv2, HUNYUAN3D, (64, 16), 64),
}

#: One whose widths the host fixes at their full size: one block of it is a file of gigabytes.
LARGE_FAMILIES = {"Z-Image": Family(supported.ZImage, LUMINA | Z_IMAGE, (16, *IMAGE), 64, {"num_tokens": ()})}
