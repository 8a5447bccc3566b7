"""A quantized MODEL against the MODEL it was made from, in the real host."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan, dequantize
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.model_management
import comfy.ops
import comfy.sd
from comfy.quant_ops import QuantizedTensor
from magic141.model_patches.bridge.int8.model import DIT, quantize_model, unpatched_weights
from magic141.model_patches.bridge.int8.probe import make_probe, run_probe
from magic141.model_patches.bridge.int8.ranking import relative_error
from magic141.model_patches.bridge.int8_ops import adopt, is_quantized
from magic141.tests.support.tiny_lora import apply_lora, lora_for, merged, output_on_route, relative_gain

PLAN = QuantizationPlan()


def load(**options):
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(tiny_dit(**options))


def load_int8(state_dict):
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(dict(state_dict))


def output(patcher, **options):
    return run_probe(patcher, make_probe(patcher), **options).output


def int8_state_dict(patcher):
    return patcher.model.diffusion_model.state_dict()


@pytest.fixture(scope="module")
def original():
    return load()


@pytest.mark.parametrize(
    ("plan", "bound"),
    [
        (QuantizationPlan(), 0.013),
        (QuantizationPlan(granularity="tensor"), 0.02),
        (QuantizationPlan("w8a8"), 0.016),
        (QuantizationPlan("int4"), 0.2),
        (QuantizationPlan(all_linear=True), 0.02),
    ],
    ids=lambda value: f"{value.mode}-{value.granularity}" if isinstance(value, QuantizationPlan) else "",
)
def test_error_against_the_original(original, plan, bound):
    assert relative_error(output(quantize_model(original, plan)), output(original)) < bound


def test_weight_only_equals_the_dequantized_weights(original):
    quantized = quantize_model(original, PLAN)
    stored = int8_state_dict(quantized)
    plain = dict(unpatched_weights(original))
    for key in stored:
        if key.endswith(".comfy_quant"):
            name = key.removesuffix(".comfy_quant")
            plain[f"{name}.weight"] = dequantize(
                {p: stored[f"{name}.{p}"] for p in ("weight", "weight_scale", "comfy_quant")}
            )
    reference = load_int8(plain)
    torch.testing.assert_close(output(quantized), output(reference), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["weight_only", "w8a8", "int4"])
def test_integers_are_those_of_the_hosts_own_layouts(original, mode):
    """Same integers and scales as comfy-kitchen's own quantizers give (4 bits: same packing and rotation)."""
    quantized = quantize_model(original, QuantizationPlan(mode))
    linear = quantized.model.diffusion_model.single_blocks[0].linear1
    assert isinstance(linear.weight, QuantizedTensor)
    weight = original.model.diffusion_model.single_blocks[0].linear1.weight
    if mode == "int4":
        mine = linear.weight.dequantize()
        theirs = dequantize(
            {
                "weight": linear.weight._qdata,
                "weight_scale": linear.weight._params.scale,
                "comfy_quant": int8_state_dict(quantized)["single_blocks.0.linear1.comfy_quant"],
            }
        )
        torch.testing.assert_close(mine, theirs)
        return
    theirs = QuantizedTensor.from_float(
        weight, "TensorWiseINT8Layout", per_channel=True, convrot=mode == "w8a8", convrot_groupsize=64
    )
    difference = (theirs._qdata.int() - linear.weight._qdata.int()).abs()
    assert int(difference.max()) <= (1 if mode == "w8a8" else 0)  # rotation sums in another order
    torch.testing.assert_close(theirs._params.scale, linear.weight._params.scale)


def test_original_is_left_alone(original):
    before = output(original)
    quantize_model(original, PLAN)
    assert torch.equal(output(original), before)


def test_block_linears_are_int8_modulation_included_and_nothing_else(original):
    stored = int8_state_dict(quantize_model(original, PLAN))
    quantized = {key.removesuffix(".comfy_quant") for key in stored if key.endswith(".comfy_quant")}
    assert {"double_blocks.0.img_mod.lin", "single_blocks.0.modulation.lin"} <= quantized
    assert {key.split(".")[0] for key in quantized} == {"double_blocks", "single_blocks"}
    assert len(quantized) == 8 + 2 + 3
    assert stored["final_layer.linear.weight"].dtype == torch.float32


def test_size_the_host_counts_is_smaller(original):
    quantized = quantize_model(original, PLAN)
    counted = sum(t.nbytes for t in quantized.model.state_dict().values())
    assert quantized.model_size() == counted
    assert counted < 0.65 * original.model_size()  # one block of each kind: embedders weigh a lot


def test_state_dict_opens_in_the_stock_loader_and_adopt_makes_it_weight_only(original):
    quantized = quantize_model(original, PLAN)
    stock = load_int8(int8_state_dict(quantized))
    assert relative_error(output(stock), output(original)) < 0.02
    torch.testing.assert_close(output(adopt(stock)), output(quantized), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("route", ["full", "lowvram", "bypass"])
@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.parametrize("lora_first", [False, True])
def test_lora_keeps_its_effect(original, route, share, lora_first):
    lora = lora_for(original, share)
    if lora_first and route == "bypass":
        pytest.skip("refused, see below")
    reference = output(load_int8(merged(original, lora))) - output(original)
    quantized = quantize_model(original, PLAN)
    base = output(quantized)
    if lora_first:
        patched = quantize_model(apply_lora(original, lora, "full"), PLAN)
    else:
        patched = apply_lora(quantized, lora, route)
    gain, cosine = relative_gain(output_on_route(patched, route) - base, reference)
    assert 0.9 < gain < 1.1
    assert cosine > 0.95


def test_lora_survives_partial_unload_once_only(original):
    quantized = quantize_model(original, PLAN)
    lora = lora_for(original, 0.3)
    patched = apply_lora(quantized, lora, "full")
    full = output_on_route(patched, "full")
    patched.patch_model(patched.load_device, lowvram_model_memory=0)
    patched.partially_unload(patched.offload_device, 1e9)
    torch.testing.assert_close(output(patched, load=False), full, rtol=1e-4, atol=1e-4)
    patched.unpatch_model(patched.offload_device)
    assert torch.equal(output(quantized), output(quantize_model(original, PLAN)))


def test_a_load_with_lora_rounds_no_weight_again(original, monkeypatch):
    """Rounded again, the weights of all layers would be in memory twice."""
    patched = apply_lora(quantize_model(original, PLAN), lora_for(original, 0.3), "full")
    made = []
    monkeypatch.setattr(QuantizedTensor, "requantize_from_float", lambda *args, **options: made.append(args))
    before = {module.weight._qdata.data_ptr() for module in patched.model.modules() if is_quantized(module)}
    comfy.model_management.load_models_gpu([patched], force_full_load=True)
    after = {module.weight._qdata.data_ptr() for module in patched.model.modules() if is_quantized(module)}
    assert not made
    assert after == before
    assert any(getattr(module, "lora_at_use", None) for module in patched.model.modules())


def test_lora_switched_off_leaves_nothing_behind(original):
    quantized = quantize_model(original, PLAN)
    before = output(quantized)
    patched = apply_lora(quantized, lora_for(original, 0.3), "full")
    assert relative_error(output(patched), before) > 0.1
    assert torch.equal(output(quantized), before)


def test_w8a8_lora_strong(original):
    quantized = quantize_model(original, QuantizationPlan("w8a8"))
    lora = lora_for(original, 0.3)
    reference = output(load_int8(merged(original, lora))) - output(original)
    patched = apply_lora(quantized, lora, "full")
    gain, cosine = relative_gain(output(patched) - output(quantized), reference)
    assert 0.9 < gain < 1.1
    assert cosine > 0.95


def test_object_patches_and_options_are_carried_over(original):
    patched = original.clone()
    patched.model_options["transformer_options"]["mine"] = 1
    patched.add_object_patch("model_sampling", "sampling")
    quantized = quantize_model(patched, PLAN)
    assert quantized.model_options["transformer_options"]["mine"] == 1
    assert quantized.object_patches["model_sampling"] == "sampling"
    assert not quantized.is_clone(original)


def test_quantized_twice_is_refused(original):
    with pytest.raises(ValueError, match="quantized already"):
        quantize_model(quantize_model(original, PLAN), PLAN)


def test_float8_is_refused():
    patcher = load()
    linear = patcher.model.diffusion_model.single_blocks[0].linear1
    linear.weight = torch.nn.Parameter(linear.weight.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ValueError, match=r"float8_e4m3fn.*quantized already"):
        quantize_model(patcher, PLAN)


def test_nan_is_refused_by_layer():
    patcher = load()
    with torch.inference_mode():
        patcher.model.diffusion_model.double_blocks[0].img_mod.lin.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"double_blocks\.0\.img_mod\.lin.*NaN or Inf"):
        quantize_model(patcher, PLAN)


def test_bypass_lora_and_compile_before_quantizing_are_refused(original):
    bypassed = apply_lora(original, lora_for(original, 0.3), "bypass")
    with pytest.raises(ValueError, match="Bypass"):
        quantize_model(bypassed, PLAN)
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    compiled = original.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    with pytest.raises(ValueError, match="before that node"):
        quantize_model(compiled, PLAN)


@pytest.mark.parametrize("mode", ["weight_only", "w8a8"])
def test_torch_compile(original, mode):
    quantized = quantize_model(original, QuantizationPlan(mode))
    eager = output(quantized)
    dit = torch.compile(quantized.model.diffusion_model, backend="aot_eager")
    probe = make_probe(quantized)
    with torch.inference_mode():
        compiled = dit(probe.xc, torch.full((1,), 833.33), probe.context, probe.pooled)
    torch.testing.assert_close(compiled, eager, rtol=1e-3, atol=1e-3)


def test_host_can_build_it_again(tmp_path):
    from safetensors.torch import save_file

    save_file(tiny_dit(), tmp_path / "dit.safetensors")
    with torch.inference_mode():
        source = comfy.sd.load_diffusion_model(str(tmp_path / "dit.safetensors"))
    quantized = quantize_model(source, PLAN)
    function, arguments = quantized.cached_patcher_init
    assert torch.equal(output(function(*arguments, disable_dynamic=True)), output(quantized))


def test_dynamic_memory_patch_is_taken_over(original):
    """What dynamic memory sets on a layer before it would merge a LoRA into the integers on arrival."""
    quantized = quantize_model(original, PLAN)
    patched = apply_lora(quantized, lora_for(original, 0.3), "full")
    from magic141.model_patches.bridge.int8_ops import _move_lora_to_use

    linear = patched.model.diffusion_model.single_blocks[0].linear1
    linear.weight_lowvram_function = lambda weight: weight
    _move_lora_to_use(patched, patched.load_device)
    assert linear.weight_lowvram_function is None
    key = f"{DIT}single_blocks.0.linear1.weight"
    assert linear.lora_at_use.key == key
    linear.lora_at_use = None
