"""Random LoRAs of a wanted size, their merge in fp32, the routes by which the host applies them, what is left."""

from collections.abc import Callable

import torch
from torch import Tensor

RANK = 4


def lora_for(patcher, share: float, *, seed: int = 3) -> dict[str, Tensor]:
    """Return a LoRA over the blocks' Linears whose every update has ``share`` of the weight's norm."""
    from magic141.model_patches.bridge.int8.blocks import block_weights

    generator = torch.Generator().manual_seed(seed)
    lora, layers = {}, block_weights(patcher.model.diffusion_model)
    for key, weight in patcher.model.diffusion_model.state_dict().items():
        if key not in layers:
            continue
        up = torch.randn(weight.shape[0], RANK, generator=generator)
        down = torch.randn(RANK, weight.shape[1], generator=generator)
        name = f"diffusion_model.{key.removesuffix('.weight')}"
        lora[f"{name}.lora_A.weight"] = down
        lora[f"{name}.lora_B.weight"] = up * (share * weight.float().norm() / (up @ down).norm())
    return lora


def merged(patcher, lora: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the DiT's state dict with the LoRA merged in fp32."""
    state_dict = {k: v.clone() for k, v in patcher.model.diffusion_model.state_dict().items()}
    for key in lora:
        if key.endswith(".lora_A.weight"):
            name = key.removesuffix(".lora_A.weight")
            weight = f"{name.removeprefix('diffusion_model.')}.weight"
            state_dict[weight] = state_dict[weight].float() + lora[f"{name}.lora_B.weight"] @ lora[key]
    return state_dict


def relative_gain(effect: Tensor, reference: Tensor) -> tuple[float, float]:
    """Return (gain, cosine): the reference effect's share found in the effect, and their direction's agreement."""
    product = float((effect * reference).sum())
    return product / float(reference.square().sum()), product / float(effect.norm() * reference.norm())


def apply_lora(patcher, lora: dict[str, Tensor], route: str):
    """Return a clone of a MODEL with the LoRA on it, as the stock loaders ("full", "lowvram") or Bypass do it."""
    import comfy.sd

    apply = comfy.sd.load_bypass_lora_for_models if route == "bypass" else comfy.sd.load_lora_for_models
    return apply(patcher, None, lora, 1.0, 0)[0]


def output_on_route(patcher, route: str, get_output: Callable | None = None) -> Tensor:
    """Return the output with the MODEL fully loaded, or (route "lowvram") with no layer kept loaded.

    Args:
        get_output: of the MODEL; without it, of the pack's own layout, on the probe.
    """
    import comfy.model_management
    from magic141.model_patches.bridge.int8.probe import make_probe, run_probe

    comfy.model_management.unload_all_models()
    patcher.patch_model(patcher.load_device, lowvram_model_memory=1 if route == "lowvram" else 0)
    try:
        if get_output is not None:
            return get_output(patcher)
        return run_probe(patcher, make_probe(patcher), load=False).output
    finally:
        patcher.unpatch_model(patcher.offload_device)
