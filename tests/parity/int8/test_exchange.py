"""Files with quanto, stock ComfyUI and our own loader on the other side."""

import pytest
import torch
from magic141.model_patches.dit.diffusers_config import diffusers_config
from magic141.model_patches.dit.keys import host_to_diffusers
from magic141.model_patches.int8.file import quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.model_patches.int8.quanto import from_quanto, to_quanto
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_lora import apply_lora, lora_for, output_on_route, relative_gain
from magic141.tools.host import use_comfyui
from safetensors.torch import load_file, save_file

use_comfyui()
quanto = pytest.importorskip("optimum.quanto")
diffusers = pytest.importorskip("diffusers")
import comfy.sd
from magic141.model_patches.bridge.int8.model import quantize_model
from magic141.model_patches.bridge.int8.probe import make_probe, run_probe
from magic141.model_patches.bridge.int8.ranking import relative_error
from magic141.model_patches.bridge.int8.report import compare_models
from magic141.model_patches.bridge.loading import load_magic141_model

PLAN = QuantizationPlan()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "dit.safetensors"
    save_file(tiny_dit(), path)
    return path


@pytest.fixture(scope="module")
def original(source):
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model(str(source))


def output(patcher):
    return run_probe(patcher, make_probe(patcher)).output


def error(patcher, original):
    return relative_error(output(patcher), output(original))


def diffusers_model():
    weights = tiny_dit()
    model = diffusers.HunyuanVideoTransformer3DModel(**diffusers_config(weights)).eval()
    model.load_state_dict(host_to_diffusers(weights))
    return model


def frozen_by_quanto():
    model = diffusers_model()
    linears = [
        n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "transformer_blocks." in n
    ]
    quanto.quantize(model, weights=quanto.qint8, include=linears)
    quanto.freeze(model)
    return model


def run_diffusers(model):
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 33, 1, 4, 4, generator=generator), torch.randn(1, 5, 64, generator=generator)
    pooled = torch.randn(1, 768, generator=generator)
    with torch.no_grad():
        return model(x, torch.tensor([800.0]), text, torch.ones(1, 5), pooled, return_dict=False)[0]


@pytest.mark.parametrize(("mode", "bound"), [("weight_only", 0.013), ("w8a8", 0.016), ("int4", 0.2)])
def test_a_file_opens_in_stock_and_in_our_loader(source, original, tmp_path, mode, bound):
    target = tmp_path / "quantized.safetensors"
    quantize_file(source, target, QuantizationPlan(mode))
    with torch.inference_mode():
        stock = comfy.sd.load_diffusion_model(str(target))
        ours, report = load_magic141_model(target)
    assert error(stock, original) < (0.02 if mode != "int4" else 0.25)
    assert error(ours, original) < bound
    in_memory = quantize_model(original, QuantizationPlan(mode))
    torch.testing.assert_close(output(ours), output(in_memory), rtol=1e-4, atol=1e-4)
    assert "scaled" in report.line


def test_weak_lora_on_a_file_from_our_loader(source, original, tmp_path):
    quantize_file(source, tmp_path / "int8.safetensors", PLAN)
    lora = lora_for(original, 0.01)
    with torch.inference_mode():
        ours, _ = load_magic141_model(tmp_path / "int8.safetensors")
        reference = output_on_route(apply_lora(original, lora, "bypass"), "full") - output(original)
    gain, cosine = relative_gain(
        output_on_route(apply_lora(ours, lora, "full"), "full") - output(ours), reference
    )
    assert 0.9 < gain < 1.1
    assert cosine > 0.9


def test_quanto_of_diffusers_opens_here(original, tmp_path):
    """What quanto froze elsewhere: the same integers as ours, and the same output."""
    frozen = {k: v.contiguous() for k, v in frozen_by_quanto().state_dict().items()}
    native = from_quanto(frozen)
    quantized = quantize_model(original, PLAN)
    stored = quantized.model.diffusion_model.state_dict()
    assert native.keys() == stored.keys()
    for key in native:
        assert torch.equal(native[key], stored[key]), key
    save_file(frozen, tmp_path / "quanto.safetensors")
    with torch.inference_mode():
        direct, _ = load_magic141_model(tmp_path / "quanto.safetensors")
    torch.testing.assert_close(output(direct), output(quantized), rtol=1e-4, atol=1e-4)
    quantize_file(tmp_path / "quanto.safetensors", tmp_path / "native.safetensors", PLAN)
    assert load_file(tmp_path / "native.safetensors").keys() == native.keys()


def test_our_file_opens_in_quanto(source, tmp_path):
    quantize_file(source, tmp_path / "native.safetensors", PLAN)
    state_dict, layers = to_quanto(load_file(tmp_path / "native.safetensors"), names="diffusers")
    frozen = frozen_by_quanto()
    assert state_dict.keys() == frozen.state_dict().keys()
    loaded = diffusers_model()
    quanto.requantize(loaded, state_dict, layers, device=torch.device("cpu"))
    torch.testing.assert_close(run_diffusers(loaded), run_diffusers(frozen), rtol=1e-4, atol=1e-4)


def test_the_loader_says_what_was_kept(source, tmp_path):
    plan = QuantizationPlan(keep=("single_blocks.0.linear1",), found_by="a test")
    quantize_file(source, tmp_path / "int8.safetensors", plan)
    with torch.inference_mode():
        _, report = load_magic141_model(tmp_path / "int8.safetensors")
    assert report.line.endswith("left as they were when it was quantized: single_blocks.0.linear1")


def test_report(original):
    report = compare_models(original, quantize_model(original, PLAN))
    assert list(report.block_errors) == ["double_blocks.0", "single_blocks.0"]
    assert 0 < report.output_error < 0.013
    assert report.bytes_after < report.bytes_before
    assert "as usual for int8" in report.text
    assert "single_blocks.0" in report.text
    with torch.inference_mode():
        other = comfy.sd.load_diffusion_model_state_dict(tiny_dit(16))
    with pytest.raises(ValueError, match="in_channels 33 and 16"):
        compare_models(original, other)
