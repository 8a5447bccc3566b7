"""Int8: bytes, error, LoRA's effect, memory of the file quantizer, stock loader, quality and speed.

Uses the embedded models and a real server for the stock loader. Figures that need a GPU appear only where there is one.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.bench.support.int8_disk import measure_disk
from magic141.tests.bench.support.int8_encoders import measure_text_encoders
from magic141.tests.bench.support.int8_families import measure_families
from magic141.tests.bench.support.int8_gpu import measure_gpu
from magic141.tests.bench.support.int8_speed import measure_speed
from magic141.tests.support.int8_shapes import dit_bytes, module_bytes_before_after, vlm_8b
from magic141.tests.support.tiny_lora import apply_lora, lora_for, merged, output_on_route, relative_gain
from magic141.tools.host import use_comfyui

MODELS = Path(__file__).resolve().parents[2] / "embedded" / "models"
DIT = MODELS / "diffusion_models" / "magic141_shapes_ti2v.safetensors"
MODES = {
    "weight_only": QuantizationPlan(),
    "per_tensor": QuantizationPlan(granularity="tensor"),
    "w8a8": QuantizationPlan("w8a8"),
    "int4": QuantizationPlan("int4"),
}
PROBES = 4
LORA_SHARES = (0.01, 0.3)
ROUTES = ("bypass", "lowvram", "full")


def measure_bytes() -> dict[str, float]:
    """Bytes of DiT + LLM + VLM before and after, with the paper's shapes, from bf16."""
    shapes = expected_shapes(hidden_size=3072, depth=20, depth_single=40)
    before, after = dit_bytes(shapes, QuantizationPlan())
    vlm_before, vlm_after = module_bytes_before_after(vlm_8b())
    return {
        "weight_bytes_ratio": (after + vlm_after) / (before + vlm_before),
        "weights_gb_bf16": (before + vlm_before) / 1e9,
        "weights_gb_int8": (after + vlm_after) / 1e9,
        "weights_gb_int4_dit": (dit_bytes(shapes, QuantizationPlan("int4"))[1] + vlm_after) / 1e9,
    }


def measure_embedded_bytes(original, encoders) -> dict[str, float]:
    from magic141.model_patches.bridge.int8.encoders import encoders_bytes, quantize_encoders
    from magic141.model_patches.bridge.int8.model import quantize_model

    plan = MODES["weight_only"]
    before = original.model_size() + encoders_bytes(encoders)
    after = quantize_model(original, plan).model_size()
    after += encoders_bytes(quantize_encoders(encoders, plan))
    return {"weight_bytes_ratio_embedded": after / before}


def measure_error(original) -> dict[str, float]:
    """Relative error of the DiT's output on held-out prompts and noises, and of Linears with outlier inputs."""
    from magic141.model_patches.bridge.int8.model import quantize_model
    from magic141.tests.bench.support.int8_calls import HeldOutCalls

    plans = MODES | {"w8a8_convrot": MODES["w8a8"]}
    models = {name: quantize_model(original, plan) for name, plan in plans.items()}
    held_out = HeldOutCalls()
    reference = held_out.outputs(original)
    figures = {f"dit_rel_error_{name}": held_out.mean_error(models[name], reference) for name in MODES}
    figures["dit_rel_error_quanto"] = held_out.mean_error(with_quanto(original), reference)
    models["w8a8_per_row"] = unrotated_w8a8(original)
    for name in ("weight_only", "w8a8_convrot", "w8a8_per_row"):
        figures[f"outlier_rel_error_{name}"] = mean_outlier_error(models[name], original)
    return figures


def with_quanto(original):
    """Return the model with the same Linears as quanto itself quantizes and runs them."""
    from optimum.quanto import freeze, qint8, quantize

    model = stock_load(original.model.diffusion_model.state_dict())
    for blocks in ("double_blocks", "single_blocks"):
        quantize(getattr(model.model.diffusion_model, blocks), weights=qint8)
        freeze(getattr(model.model.diffusion_model, blocks))
    return model


def mean_outlier_error(quantized, original) -> float:
    """Mean over the blocks' Linears and the probes."""
    from magic141.model_patches.bridge.int8.probe import make_probe
    from magic141.tests.bench.support.int8_calls import outlier_errors

    runs = [outlier_errors(quantized, original, make_probe(original, seed=seed)) for seed in range(PROBES)]
    return sum(sum(errors.values()) / len(errors) for errors in runs) / len(runs)


def unrotated_w8a8(original):
    """Return what the host makes of plain int8 rows: activations rounded, nothing rotated."""
    return stock_load(int8_state_dict(original))


def int8_state_dict(original) -> dict[str, torch.Tensor]:
    from magic141.model_patches.bridge.int8.model import quantized_state_dict

    return quantized_state_dict(original, MODES["weight_only"])


def stock_load(state_dict):
    import comfy.sd

    return comfy.sd.load_diffusion_model_state_dict(dict(state_dict))


def measure_lora(original) -> dict[str, float]:
    """How much of a LoRA's own effect is left, against fp32 merged, by route."""
    from magic141.model_patches.bridge.int8.model import quantize_model

    recommended, figures = [], {}
    models = {
        "ours": quantize_model(original, MODES["weight_only"]),
        "w8a8": quantize_model(original, MODES["w8a8"]),
        "stock_loaded": stock_load(int8_state_dict(original)),
    }
    for share in LORA_SHARES:
        lora = lora_for(original, share)
        reference = output_on_route(stock_load(merged(original, lora)), "full") - output_on_route(
            original, "full"
        )
        for kind, model in models.items():
            for route in ROUTES:
                effect = output_on_route(apply_lora(model, lora, route), route) - output_on_route(
                    model, route
                )
                gain, cosine = relative_gain(effect, reference)
                name = f"lora_{kind}_{route}_{share * 100:.0f}pct"
                figures |= {f"{name}_gain": gain, f"{name}_cosine": cosine}
                if kind == "ours":
                    recommended.append((gain, cosine))
    gains, cosines = zip(*recommended, strict=True)
    return figures | {
        "lora_gain_min": min(gains),
        "lora_gain_max": max(gains),
        "lora_cosine_min": min(cosines),
    }


def measure_stock_loader(folder: Path) -> dict[str, float]:
    """Open the saved file with stock UNETLoader in a fresh server, and compare with the fp32 file there."""
    from magic141.model_patches.int8.file import quantize_file
    from magic141.tools.client import ComfyClient
    from magic141.tools.server import ComfyServer

    with ComfyServer(folder / "server") as server:
        models = server.base / "models" / "diffusion_models"
        models.mkdir(parents=True, exist_ok=True)
        quantize_file(DIT, models / "bench_int8.safetensors", MODES["weight_only"])
        loader = {"class_type": "UNETLoader"}
        prompt = {
            "1": loader | {"inputs": {"unet_name": DIT.name, "weight_dtype": "default"}},
            "2": loader | {"inputs": {"unet_name": "bench_int8.safetensors", "weight_dtype": "default"}},
            "3": {
                "class_type": "Magic141QuantizationReport",
                "inputs": {"original": ["1", 0], "quantized": ["2", 0], "seed": 0, "positive": ["6", 0]},
            },
            "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 2]}},
        } | held_out_prompt("6")
        result = ComfyClient(server.url).run(prompt)
    return {"stock_loader_rel_error": float(result.outputs["4"]["text"][0])}


def held_out_prompt(node: str) -> dict:
    """Return the nodes that encode a held-out caption; ``node`` gives it as conditioning."""
    from magic141.lab import world
    from magic141.tests.bench.support.int8_calls import held_out_scenes

    caption = world.named_caption(held_out_scenes(1))[0]
    encoders = {
        "vlm_folder": "magic141_shapes_llava",
        "clip_folder": "magic141_shapes_clip",
        "precision": "fp32",
    }
    inputs = {"encoders": ["7", 0], "vae": ["8", 0], "prompt": caption, "negative_prompt": "", "length": 13}
    sizes = {
        "width": 64,
        "height": 64,
        "size": "width x height",
        "image_mode": "start frame",
        "guidance": 6.0,
    }
    return {
        node: {"class_type": "Magic141VLMImageEncode", "inputs": inputs | sizes},
        "7": {"class_type": "Magic141LoadEncoders", "inputs": encoders},
        "8": {"class_type": "VAELoader", "inputs": {"vae_name": "magic141_shapes_vae.safetensors"}},
    }


def measure_quality(count: int) -> dict[str, float]:
    """Motion accuracy on held-out captions before and after, DiT and encoders quantized."""
    from magic141.lab import world
    from magic141.model_patches.bridge.int8.encoders import quantize_encoders
    from magic141.model_patches.bridge.int8.model import quantize_model
    from magic141.tests.bench.demo import FRAMES, Pack, animate

    pack = Pack()
    scenes = world.sample_scenes(count, generator=torch.Generator().manual_seed(11), split="test")
    truth, captions = world.render_clip(scenes, FRAMES), world.named_caption(scenes)

    def accuracy() -> float:
        return world.score_clips(animate(pack, truth, captions), scenes)["motion_right"].float().mean().item()

    figures = {"motion_accuracy": accuracy()}
    plain = pack.ti2v, pack.encoders
    for mode in ("weight_only", "w8a8", "int4"):
        pack.ti2v = quantize_model(plain[0], MODES[mode])
        pack.encoders = quantize_encoders(plain[1], MODES["weight_only"])
        figures[f"motion_accuracy_{mode}"] = accuracy()
    drop = figures["motion_accuracy"] - figures["motion_accuracy_weight_only"]
    return figures | {"motion_accuracy_drop_points": 100 * drop, "quality_captions": count}


def load_embedded():
    from magic141.model_patches.bridge.encoders.socket import load_encoders
    from magic141.model_patches.bridge.loading import load_magic141_model

    folder = MODELS / "text_encoders"
    encoders = load_encoders(folder / "magic141_shapes_llava", folder / "magic141_shapes_clip", "fp32")
    return load_magic141_model(DIT)[0], encoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="a small file and 20 captions instead of 4.4 GB and 200"
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    args = parser.parse_args()
    use_comfyui()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name in args.only:
            for part in PARTS[name](Work(Path(folder), quick=args.quick)):
                figures |= part
                print(json.dumps(part, indent=1), flush=True)
                if args.json:
                    args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """Where files are made, and how much is measured."""

    folder: Path
    quick: bool


def measure_shipped(work: Work) -> Iterator[dict[str, float]]:
    """Yield bytes, errors and LoRA's effect on the weights that ship."""
    original, encoders = load_embedded()
    yield measure_embedded_bytes(original, encoders)
    yield measure_error(original)
    yield measure_lora(original)


#: Groups of figures, the quick ones first.
PARTS: dict[str, Callable[[Work], Iterable[dict[str, float]]]] = {
    "bytes": lambda work: [measure_bytes()],
    "shipped": measure_shipped,
    "families": lambda work: measure_families(work.folder),
    "encoders": lambda work: [measure_text_encoders(work.folder)],
    "speed": lambda work: [measure_speed()],
    "disk": lambda work: [measure_disk(work.folder, quick=work.quick)],
    "loader": lambda work: [measure_stock_loader(work.folder)],
    "gpu": lambda work: [measure_gpu()],
    "quality": lambda work: [measure_quality(20 if work.quick else 200)],
}


if __name__ == "__main__":
    main()
