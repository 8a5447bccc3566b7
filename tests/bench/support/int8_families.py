"""Models of other families: error from file to the stock loader, fp8 sources, LoRA, and how long a plan takes."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from magic141.model_patches.dit.shards import read_model_header
from magic141.model_patches.dit.weights_file import TensorInfo
from magic141.model_patches.int8.choice import plan_file
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.tests.support.tiny_lora import apply_lora, lora_for, merged, output_on_route, relative_gain

PLAN = QuantizationPlan()
WAN_14B = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40, "in_dim": 36}
FLUX_12B = {
    "hidden_size": 3072, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "context_in_dim": 4096,
    "vec_in_dim": 768,
}  # fmt: skip
LORA_FAMILIES, LORA_SHARE = ("HunyuanVideo I2V", "Flux 1", "Wan 2.2 I2V"), 0.01


def measure_families(folder: Path) -> Iterator[dict[str, float]]:
    """Yield the figures, the quick ones first."""
    yield measure_plans(folder)
    yield measure_lora_of_families()
    yield measure_fp8_source(folder)
    yield measure_family_errors(folder)


def measure_family_errors(folder: Path) -> dict[str, float]:
    """Quantize a tiny model of each family, open it with the stock loader, and compare with fp32."""
    import comfy.sd
    from magic141.tests.support.family_files import quantize_found, relative_error, write_weights
    from magic141.tests.support.tiny_families import FAMILIES, LARGE_FAMILIES

    errors, failed = {}, 0
    for name, family in (FAMILIES | LARGE_FAMILIES).items():
        source, target = folder / "family.safetensors", folder / "family_int8.safetensors"
        try:
            write_weights(source, family.weights(), family.metadata)
            quantize_found(source, target, PLAN)
            plain, quantized = (comfy.sd.load_diffusion_model(str(path)) for path in (source, target))
            errors[name] = relative_error(family.output(quantized), family.output(plain))
        except (ValueError, RuntimeError, KeyError) as error:
            print(f"{name}: {error}", flush=True)
            failed += 1
    figures = {f"family_rel_error_{name}": error for name, error in errors.items()}
    return figures | {
        "families_quantized": len(errors),
        "families_failed": failed,
        "family_rel_error_max": max(errors.values()),
    }


def measure_fp8_source(folder: Path) -> dict[str, float]:
    """Compare int8 made from fp8_scaled with the fp8 model itself."""
    import comfy.sd
    from magic141.model_patches.bridge.int8.detect import find_layout
    from magic141.tests.support.family_files import fp8_scaled, quantize_found, relative_error, write_weights
    from magic141.tests.support.tiny_families import FAMILIES

    family, source, target = FAMILIES["Wan 2.2 I2V"], folder / "fp8.safetensors", folder / "int8.safetensors"
    weights = family.weights()
    layers = find_layout(read_model_header(write_weights(source, weights)), PLAN).blocks
    write_weights(source, fp8_scaled(weights, layers))
    quantize_found(source, target, PLAN)
    fp8, quantized = (comfy.sd.load_diffusion_model(str(path)) for path in (source, target))
    return {"fp8_source_rel_error": relative_error(family.output(quantized), family.output(fp8))}


def measure_lora_of_families() -> dict[str, float]:
    """Return the least cosine and the range of gains of a weak LoRA over families and routes, against fp32 merged."""
    import comfy.sd
    from magic141.model_patches.bridge.int8.model import quantize_model
    from magic141.tests.support.tiny_families import FAMILIES

    found = []
    for family in (FAMILIES[name] for name in LORA_FAMILIES):
        plain = comfy.sd.load_diffusion_model_state_dict(family.weights())
        quantized, lora = quantize_model(plain, PLAN), lora_for(plain, LORA_SHARE)
        changed = comfy.sd.load_diffusion_model_state_dict(merged(plain, lora))
        reference = family.output(changed) - family.output(plain)
        for route in ("bypass", "lowvram", "full"):
            effect = output_on_route(apply_lora(quantized, lora, route), route, family.output)
            effect -= output_on_route(quantized, route, family.output)
            found.append(relative_gain(effect, reference))
    gains, cosines = zip(*found, strict=True)
    return {
        "lora_cosine_min_families": min(cosines),
        "lora_gain_min_families": min(gains),
        "lora_gain_max_families": max(gains),
    }


def measure_plans(folder: Path) -> dict[str, float]:
    """Return seconds and bytes of planning real shapes from a header, without weights."""
    import comfy.supported_models as supported
    from magic141.tests.support.tiny_families import FLUX, WAN

    figures = {}
    for name, kind, config in (
        ("wan22_14b", supported.WAN21_T2V, WAN | WAN_14B),
        ("flux_12b", supported.Flux, FLUX | FLUX_12B),
    ):
        header = write_hollow_file(folder / f"{name}.safetensors", kind, config)
        figures |= {f"plan_{key}_{name}": value for key, value in time_plan(header).items()}
        header.unlink()
    return figures


def time_plan(path: Path) -> dict[str, float]:
    """Plan a file and return the seconds (the least of three times), and its bytes before and after in GB."""
    from magic141.model_patches.bridge.int8.detect import find_layout

    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        header = read_model_header(path)
        plan = plan_file(header, find_layout(header, PLAN), PLAN)
        assert plan.text
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "gb_before": plan.bytes_before / 1e9, "gb_after": plan.bytes_after / 1e9}


def write_hollow_file(path: Path, kind: type, config: Mapping) -> Path:
    """Write a bf16 file of a model's real shapes whose weights are one hole, which takes no room on the disk."""
    from magic141.model_patches.dit.stream import TensorWriter
    from magic141.tests.support.tiny_families import Family

    shapes = Family(kind, config, (1,), 1).module(device="meta").state_dict()
    tensors = {key: TensorInfo("bfloat16", tuple(tensor.shape)) for key, tensor in shapes.items()}
    with path.open("wb") as file:
        TensorWriter(file, tensors, {"format": "pt"})
    return path
