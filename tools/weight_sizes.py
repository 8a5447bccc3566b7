"""The README's table of weights and GPU memory: arithmetic over the shapes of the real models, nothing measured.

Run as ``python -m magic141.tools.weight_sizes``; a test compares what it prints with the README.
"""

import math

from ..model_patches.dit.keys import expected_shapes
from ..model_patches.int8.quantize import BLOCK_WEIGHT, QuantizationPlan
from ..tests.support.int8_shapes import dit_bytes, module_bytes_before_after, vlm_8b

#: Bits per weight of GGUF's kinds (block scales included) and of fp8, where int8 takes 8.
BITS = {
    "fp8": 8,
    "GGUF Q8_0": 8.5,
    "GGUF Q6_K": 6.5625,
    "GGUF Q5_K": 5.5,
    "GGUF Q4_K": 4.5,
    "GGUF Q3_K": 3.4375,
}
VAE_GB, CLIP_GB = 0.49, 0.25
#: GPU memory in GB, and for each: the kind of the DiT and of the encoders.
CHOICES = (
    (48, "bf16", "bf16"),
    (32, "bf16", "bf16"),
    (24, "int8", "bf16"),
    (16, "int8", "int8"),
    (12, "GGUF Q5_K", "int8"),
    (8, "GGUF Q3_K", "int8"),
)


def dit_gigabytes() -> dict[str, float]:
    """Return the size of the 13B DiT's weights by kind; biases, norms and embedders stay in 16 bits."""
    shapes = expected_shapes(hidden_size=3072, depth=20, depth_single=40)
    plan = QuantizationPlan()
    whole, int8 = dit_bytes(shapes, plan)
    matrices = sum(
        math.prod(shape)
        for key, shape in shapes.items()
        if BLOCK_WEIGHT.match(key) and plan.can_quantize(shape)
    )
    sizes = {"bf16": whole, "int8": int8}
    sizes |= {kind: whole - 2 * matrices + matrices * bits / 8 for kind, bits in BITS.items()}
    return {kind: size / 1e9 for kind, size in sizes.items()}


def encoder_gigabytes() -> dict[str, float]:
    """Return the size of LLaVA-LLaMA-3-8B and CLIP-L by kind; the token embedding stays in 16 bits."""
    whole, int8 = module_bytes_before_after(vlm_8b())
    return {"bf16": whole / 1e9 + CLIP_GB, "int8": int8 / 1e9 + CLIP_GB}


def sizes_table() -> str:
    """Return the table of sizes."""
    kinds = dit_gigabytes()
    encoders = encoder_gigabytes()
    lines = ["| Weights | DiT 13B | Encoders 8B | VAE |", "| --- | --- | --- | --- |"]
    for kind, size in kinds.items():
        others = f"{encoders[kind]:.1f}" if kind in encoders else ""
        lines.append(f"| {kind} | {size:.1f} | {others} | {f'{VAE_GB:.1f}' if kind == 'bf16' else ''} |")
    return "\n".join(lines)


def choices_table() -> str:
    """Return the table of GPUs; ComfyUI streams from RAM what does not fit."""
    kinds, encoders = dit_gigabytes(), encoder_gigabytes()
    lines = ["| GPU memory | DiT | Encoders | Left beside the DiT | Left beside the encoders |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for memory, dit, encoder in CHOICES:
        left = [memory - kinds[dit], memory - encoders[encoder]]
        beside = [f"{gigabytes:.1f}" if gigabytes > 0 else "streamed from RAM" for gigabytes in left]
        lines.append(f"| {memory} | {dit} | {encoder} | {beside[0]} | {beside[1]} |")
    return "\n".join(lines)


def main() -> None:
    print(sizes_table(), choices_table(), sep="\n\n")


if __name__ == "__main__":
    main()
