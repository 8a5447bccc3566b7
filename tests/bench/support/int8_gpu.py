"""A DiT of the real size with random weights on a GPU: memory and time of one step, bf16 against int8."""

import gc
import time

import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.int8.quantize import QuantizationPlan
from torch import Tensor

#: 121 frames of 960 x 544 in latents.
CLIP = (31, 68, 120)
SIZES = {"hidden_size": 3072, "depth": 20, "depth_single": 40}
REPEATS = 3


def measure_gpu() -> dict[str, float]:
    """Return weights and peak in GB and seconds a step; nothing without a GPU."""
    if not torch.cuda.is_available():
        return {}
    import comfy.sd
    from magic141.model_patches.bridge.int8.model import quantize_model

    original = comfy.sd.load_diffusion_model_state_dict(random_weights(SIZES))
    figures = step_figures(original, "bf16")
    for mode in ("weight_only", "w8a8"):
        figures |= step_figures(quantize_model(original, QuantizationPlan(mode)), f"int8_{mode}")
    return figures


def step_figures(patcher, name: str) -> dict[str, float]:
    from comfy.model_management import unload_all_models
    from magic141.model_patches.bridge.int8.probe import make_probe, run_probe

    unload_all_models()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    probe = make_probe(patcher, size=CLIP)
    seconds = []
    for _ in range(1 + REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run_probe(patcher, probe, record=False)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {
        f"gpu_{name}_weights_gb": patcher.model_size() / 1e9,
        f"gpu_{name}_peak_gb": torch.cuda.max_memory_allocated() / 1e9,
        f"gpu_{name}_step_s": min(seconds[1:]),
    }


def random_weights(sizes: dict[str, int]) -> dict[str, Tensor]:
    """Return bf16 weights of a DiT, all cut from one pool of random numbers."""
    pool = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * 0.02
    weights = {}
    for key, shape in expected_shapes(**sizes).items():
        count = torch.Size(shape).numel()
        weights[key] = pool.repeat(-(-count // pool.numel()))[:count].reshape(shape)
    return weights
