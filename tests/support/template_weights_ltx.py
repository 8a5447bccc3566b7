"""Small random weights of LTX-2.3's layout (picture and sound), under the file names of the host's stock template.

The host reads most sizes of LTX from the checkpoint's metadata; Gemma's are fixed and shrunk by the tests' pack.
"""

import json
from pathlib import Path
from typing import Any

import torch
from magic141.tests.support.template_weights import lora_state, random_state, shrink, tokenizer_bytes, write
from torch import Tensor

CHECKPOINT = "ltx-2.3-22b-dev-fp8.safetensors"
GEMMA = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 32}
GEMMA |= {"num_attention_heads": 1, "num_key_value_heads": 1}
"""What is left of Gemma 3 12B; the host knows it by its 48 layers, whose states are all used."""
GEMMA_STATES = 49
VIDEO_WIDTH, AUDIO_WIDTH = 64, 32
TRANSFORMER: dict[str, Any] = {
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "cross_attention_dim": VIDEO_WIDTH,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 16,
    "audio_cross_attention_dim": AUDIO_WIDTH,
    "connector_num_attention_heads": 2,
    "connector_attention_head_dim": 32,
    "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 16,
    "connector_num_layers": 1,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "cross_attention_adaln": True,
    "apply_gated_attention": True,
    "use_middle_indices_grid": True,
    "causal_temporal_positioning": True,
}
RESIDUAL = {"multiplier": 2}
VIDEO_VAE: dict[str, Any] = {
    "dims": 3,
    "latent_channels": 128,
    "patch_size": 4,
    "norm_layer": "pixel_norm",
    "latent_log_var": "uniform",
    "encoder_base_channels": 8,
    "decoder_base_channels": 8,
    "encoder_blocks": [["res_x", {"num_layers": 1}], *[["compress_all_res", RESIDUAL]] * 3],
    "decoder_blocks": [
        *[["res_x", {"num_layers": 1}], ["compress_all", RESIDUAL | {"residual": True}]] * 3,
        ["res_x", {"num_layers": 1}],
    ],
}
SOUND = {
    "double_z": True,
    "mel_bins": 64,
    "z_channels": 8,
    "resolution": 256,
    "in_channels": 2,
    "out_ch": 2,
    "ch": 8,
    "ch_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "mid_block_add_attention": False,
    "norm_type": "pixel",
    "causality_axis": "height",
}
AUDIO_VAE = {
    "model": {"params": {"ddconfig": SOUND, "sampling_rate": 16000}},
    "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
}
VOCODER = {
    "upsample_initial_channel": 64,
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
}
UPSAMPLER = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}


def write_ltx_weights(models: Path) -> None:
    """Write what the LTX-2.3 image-to-video template loads, into a server's ``models`` folder."""
    shrink(
        models,
        classes={
            "comfy.text_encoders.llama:Gemma3_12B_Config": GEMMA,
            "comfy.text_encoders.lt:DualLinearProjection": text_projection_sizes(),
        },
    )
    config = {"transformer": TRANSFORMER, "vae": VIDEO_VAE, "audio_vae": AUDIO_VAE, "vocoder": VOCODER}
    parts = checkpoint_parts()
    checkpoint = {f"{prefix}.{key}": value for prefix, part in parts.items() for key, value in part.items()}
    write(models / "checkpoints" / CHECKPOINT, checkpoint, metadata={"config": json.dumps(config)})
    write(models / "text_encoders" / "gemma_3_12B_it_fp4_mixed.safetensors", gemma_state())
    upsampler = models / "latent_upscale_models" / "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
    write(upsampler, upsampler_state(), metadata={"config": json.dumps(UPSAMPLER)})
    loras = models / "loras"
    distilled = "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors"
    write(loras / distilled, lora_state(parts["model.diffusion_model"], "transformer_blocks.0.attn1.to_q"))
    # The template's switch leaves the branch with this LoRA out, but the server wants to know the file.
    write(loras / "gemma-3-12b-it-abliterated_lora_rank64_bf16.safetensors", {"unused": torch.zeros(1)})


def text_projection_sizes() -> dict[str, int]:
    width = GEMMA_STATES * GEMMA["hidden_size"]
    return {"in_dim": width, "out_dim_video": VIDEO_WIDTH, "out_dim_audio": AUDIO_WIDTH}


def checkpoint_parts() -> dict[str, dict[str, Tensor]]:
    """Return the state dicts of the checkpoint by their prefix."""
    import comfy.ops
    from comfy.ldm.lightricks.av_model import LTXAVModel
    from comfy.ldm.lightricks.vae.causal_audio_autoencoder import CausalAudioAutoencoder
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
    from comfy.ldm.lightricks.vocoders.vocoder import Vocoder
    from comfy.text_encoders.lt import DualLinearProjection

    plain = {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}
    return {
        "model.diffusion_model": random_state(LTXAVModel(**TRANSFORMER, **plain)),
        "vae": with_plain_statistics(random_state(VideoVAE(config=VIDEO_VAE))),
        "audio_vae": with_plain_statistics(random_state(CausalAudioAutoencoder(AUDIO_VAE))),
        "vocoder": random_state(Vocoder(VOCODER)),
        "text_embedding_projection": random_state(DualLinearProjection(**text_projection_sizes(), **plain)),
    }


def with_plain_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a VAE whose latents have mean 0 and deviation 1."""
    std, mean = "per_channel_statistics.std-of-means", "per_channel_statistics.mean-of-means"
    return state | {std: torch.ones_like(state[std]), mean: torch.zeros_like(state[mean])}


def gemma_state() -> dict[str, Tensor]:
    """Return a tiny Gemma 3 without eyes, with its tokenizer."""
    import comfy.ops
    from comfy.text_encoders.llama import Gemma3_12B_Config, Llama2_

    model = Llama2_(Gemma3_12B_Config(**GEMMA), device="cpu", ops=comfy.ops.disable_weight_init)
    state = {f"model.{name}": value for name, value in random_state(model).items()}
    return state | {"spiece_model": tokenizer_bytes(bos_id=2, unk_id=3)}


def upsampler_state() -> dict[str, Tensor]:
    import comfy.ops
    from comfy.ldm.lightricks.latent_upsampler import LatentUpsampler

    return random_state(LatentUpsampler.from_config(UPSAMPLER, operations=comfy.ops.disable_weight_init))
