"""The settings with which diffusers builds the same network as a host DiT."""

from collections.abc import Mapping

from torch import Tensor

from .keys import split_key

HEAD_SIZE = 128


def count_blocks(keys, stack: str) -> int:
    """Return one more than the highest block number in ``stack``: ``double_blocks``, ``single_blocks``, ..."""
    numbers = (
        int(parts.index) for parts in map(split_key, keys) if parts.module.startswith(f"{stack}.{{i}}.")
    )
    return max(numbers, default=-1) + 1


def diffusers_config(state_dict: Mapping[str, Tensor]) -> dict:
    """Return the keyword arguments that build ``HunyuanVideoTransformer3DModel`` for a host state dict.

    Args:
        state_dict: the host's names; only keys and shapes are read.
    """
    patch = state_dict["img_in.proj.weight"].shape
    refiner = "txt_in.individual_token_refiner.blocks"
    return {
        "in_channels": patch[1],
        "out_channels": state_dict["final_layer.linear.weight"].shape[0] // patch[-1] ** 2,
        "num_attention_heads": patch[0] // HEAD_SIZE,
        "attention_head_dim": HEAD_SIZE,
        "num_layers": count_blocks(state_dict, "double_blocks"),
        "num_single_layers": count_blocks(state_dict, "single_blocks"),
        "num_refiner_layers": count_blocks(state_dict, refiner),
        "mlp_ratio": 4.0,
        "patch_size": patch[-1],
        "patch_size_t": 1,
        "qk_norm": "rms_norm",
        "guidance_embeds": "guidance_in.in_layer.weight" in state_dict,
        "text_embed_dim": state_dict["txt_in.input_embedder.weight"].shape[1],
        "pooled_projection_dim": state_dict["vector_in.in_layer.weight"].shape[1],
        "rope_theta": 256.0,
        "rope_axes_dim": (16, 56, 56),
        "image_condition_type": None,
    }
