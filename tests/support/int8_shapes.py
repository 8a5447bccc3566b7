"""Models of the real sizes without their weights (meta tensors), and big files of random weights."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.dit.stream import TensorWriter
from magic141.model_patches.dit.weights_file import TensorInfo
from magic141.model_patches.int8.quantize import BLOCK_WEIGHT, INT4_FORMAT, QuantizationPlan, encode_config
from magic141.tests.support.released_sizes import LLAMA_8B, VISION_L_336
from torch import nn

BF16_BYTES, SCALE_BYTES = 2, 4


def dit_bytes(shapes: Mapping[str, tuple[int, ...]], plan: QuantizationPlan) -> tuple[int, int]:
    """Return a DiT's bytes in bf16 and quantized, scales and configurations included."""
    before = sum(BF16_BYTES * math.prod(shape) for shape in shapes.values())
    after = 0
    for key, shape in shapes.items():
        after += (
            quantized_bytes(shape, plan)
            if BLOCK_WEIGHT.match(key) and plan.can_quantize(shape)
            else BF16_BYTES * math.prod(shape)
        )
    return before, after


def quantized_bytes(shape: tuple[int, ...], plan: QuantizationPlan) -> int:
    rows, width = shape
    config = plan.layer_config(width)
    integers = rows * width // 2 if config["format"] == INT4_FORMAT else rows * width
    scales = 1 if plan.granularity == "tensor" else rows
    return integers + SCALE_BYTES * scales + encode_config(config).numel()


def vlm_8b() -> nn.Module:
    """Return the encoders' holder with LLaVA-LLaMA-3-8B's shapes on the meta device."""
    from magic141.model_patches.encoders.vlm import VisionLanguageModel
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision, text = CLIPVisionConfig(**VISION_L_336), LlamaConfig(**LLAMA_8B)
    with torch.device("meta"):
        return VisionLanguageModel(
            LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))
        )


def module_bytes_before_after(module: nn.Module) -> tuple[int, int]:
    """Return a transformers module's bytes in bf16 and with every Linear in int8."""
    plan = QuantizationPlan()
    before = sum(BF16_BYTES * parameter.numel() for parameter in module.parameters())
    saved = sum(
        BF16_BYTES * child.weight.numel() - quantized_bytes(tuple(child.weight.shape), plan)
        for child in module.modules()
        if isinstance(child, nn.Linear)
    )
    return before, before - saved


def write_random_dit(path: Path, *, parts: int = 1, **sizes: int) -> Path:
    """Write a DiT of random bf16 weights, without ever holding it.

    Args:
        parts: of more than one, each is a file of its own and the path of the first is returned.
    """
    tensors = {key: TensorInfo("bfloat16", shape) for key, shape in expected_shapes(**sizes).items()}
    pool = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16) * 0.02
    names = [f"{path.stem}-{n:05d}-of-{parts:05d}{path.suffix}" for n in range(1, parts + 1)]
    files = [path.with_name(name) for name in names] if parts > 1 else [path]
    keys, size = list(tensors), -(-len(tensors) // parts)
    for number, file in enumerate(files):
        inside = {key: tensors[key] for key in keys[number * size : (number + 1) * size]}
        _write_from_pool(file, inside, pool)
    return files[0]


def _write_from_pool(path: Path, tensors: Mapping[str, TensorInfo], pool: torch.Tensor) -> None:
    with path.open("wb") as file:
        writer = TensorWriter(file, tensors, {"format": "pt"})
        for key, (_, shape) in tensors.items():
            remaining = math.prod(shape)
            while remaining:
                piece = pool[: min(remaining, pool.numel())]
                writer.write(key, piece)
                remaining -= piece.numel()
