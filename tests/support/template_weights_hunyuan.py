"""Small random weights of HunyuanVideo 1.5's layout, under the file names that the host's stock template asks for."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from magic141.tests.support.template_weights import random_state, shrink, write
from torch import Tensor

QWEN = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
"""What is left of Qwen2.5-VL 7B; its vocabulary, and the width of a key by which the host knows it, stay."""
BYT5 = {"d_ff": 32, "num_layers": 1}
SIGLIP = {"num_hidden_layers": 2, "intermediate_size": 32}
VAE_CHANNELS = [32, 32, 64, 64, 64]


def write_hunyuan_weights(models: Path) -> None:
    """Write what the HunyuanVideo 1.5 image-to-video template loads, into a server's ``models`` folder."""
    from magic141.tests.support.tiny_families import FAMILIES

    classes = {
        "comfy.text_encoders.llama:Qwen25_7BVLI_Config": QWEN,
        "comfy.text_encoders.qwen_vl:Qwen2VLVisionTransformer": {"hidden_size": 64, "num_layers": 1},
    }
    for name in ("Encoder", "Decoder"):
        classes[f"comfy.ldm.hunyuan_video.vae_refiner:{name}"] = {"block_out_channels": VAE_CHANNELS}
    shrink(
        models,
        classes=classes,
        configs={"byt5_config_small_glyph.json": BYT5, "clip_vision_siglip_384.json": SIGLIP},
    )
    family, dits = FAMILIES["HunyuanVideo 1.5"], models / "diffusion_models"
    write(dits / "hunyuanvideo1.5_720p_i2v_fp16.safetensors", family.weights())
    distilled = replace(family, config={**family.config, "meanflow": True})
    write(dits / "hunyuanvideo1.5_480p_i2v_step_distilled_fp8_scaled.safetensors", distilled.weights())
    texts = models / "text_encoders"
    write(texts / "qwen_2.5_vl_7b_fp8_scaled.safetensors", qwen_state())
    write(texts / "byt5_small_glyphxl_fp16.safetensors", byt5_state())
    write(models / "clip_vision" / "sigclip_vision_patch14_384.safetensors", siglip_state())
    write(models / "vae" / "hunyuanvideo15_vae_fp16.safetensors", vae_state())


def qwen_state() -> dict[str, Tensor]:
    """Return a tiny Qwen2.5 without eyes: the template's prompts have no pictures."""
    import comfy.ops
    from comfy.text_encoders.llama import Llama2_, Qwen25_7BVLI_Config

    config = Qwen25_7BVLI_Config(**QWEN, num_key_value_heads=4)
    model = Llama2_(config, device="cpu", dtype=torch.float16, ops=comfy.ops.disable_weight_init)
    return {f"model.{name}": value.half() for name, value in random_state(model).items()}


def byt5_state() -> dict[str, Tensor]:
    import comfy.ops
    import comfy.text_encoders.hunyuan_image
    from comfy.text_encoders.t5 import T5

    file = Path(comfy.text_encoders.hunyuan_image.__file__).with_name("byt5_config_small_glyph.json")
    config = json.loads(file.read_text()) | BYT5
    return random_state(T5(config, torch.float32, "cpu", comfy.ops.disable_weight_init))


def siglip_state() -> dict[str, Tensor]:
    """Return a shallow SigLIP, and the one key by which the host knows it."""
    import comfy.clip_vision
    import comfy.ops
    from comfy.clip_model import CLIPVisionModelProjection

    file = Path(comfy.clip_vision.__file__).with_name("clip_vision_siglip_384.json")
    config = json.loads(file.read_text()) | SIGLIP
    model = CLIPVisionModelProjection(config, torch.float32, "cpu", comfy.ops.disable_weight_init)
    return random_state(model) | {"vision_model.encoder.layers.22.layer_norm1.weight": torch.zeros(1)}


def vae_state() -> dict[str, Tensor]:
    from comfy.ldm.hunyuan_video.vae_refiner import Decoder, Encoder

    size = {"in_channels": 3, "z_channels": 32, "block_out_channels": VAE_CHANNELS, "num_res_blocks": 2}
    size |= {"ffactor_spatial": 16, "ffactor_temporal": 4}
    halves = {"encoder": Encoder(**size), "decoder": Decoder(**size, out_channels=3)}
    return {
        f"{half}.{name}": value
        for half, module in halves.items()
        for name, value in random_state(module).items()
    }
