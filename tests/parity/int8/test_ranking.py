"""The ranking of layers against layers that were made bad, and what keeping them gains, in the real host."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.model_patches.int8.ranking import keep_worst
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.sd
from magic141.model_patches.bridge.int8.model import quantize_model
from magic141.model_patches.bridge.int8.probe import ProbeInput
from magic141.model_patches.bridge.int8.report import compare_models
from magic141.tests.support.family_files import quantize_found, write_weights
from magic141.tests.support.tiny_families import FAMILIES

PLAN = QuantizationPlan()
OUTLIER = 300.0
#: What a prompt of a family is, and the layer that is made bad.
PROMPTS = {
    "Flux 1": (64, {"pooled_output": torch.zeros(1, 32)}, "double_blocks.0.img_mlp.0"),
    "SD3": (64, {"pooled_output": torch.zeros(1, 64)}, "joint_blocks.0.x_block.mlp.fc1"),
    "Wan 2.1": (4096, {}, "blocks.0.ffn.0"),
    "Qwen-Image": (64, {}, "transformer_blocks.0.img_mlp.net.0.proj"),
}


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


def spoil(weights, name):
    """Give every row of a weight one value so large that int8 steps over the others."""
    weight = weights[f"{name}.weight"].clone()
    weight[:, 0] = OUTLIER * weight.std()
    return weights | {f"{name}.weight": weight}


def prompt(name):
    width, extra, _ = PROMPTS[name]
    text = torch.randn(1, 6, width, generator=torch.Generator().manual_seed(2))
    return ProbeInput(positive=[[text, extra]])


def load(path):
    return comfy.sd.load_diffusion_model(str(path))


@pytest.mark.parametrize("bad", ["single_blocks.0.linear1", "double_blocks.0.img_mlp.2"])
def test_the_bad_layer_is_first_and_keeping_it_lowers_the_error(bad, tmp_path):
    source = write_weights(tmp_path / "dit.safetensors", spoil(tiny_dit(), bad))
    original = load(source)
    quantized = quantize_model(original, PLAN)
    seen = []
    report = compare_models(original, quantized, rank=True, progress=lambda *done: seen.append(done))
    assert next(iter(report.ranking.errors)) == bad
    assert len(report.ranking.errors) == 13
    assert seen[-1] == (13, 13)
    assert report.errors_when_kept[1] < 0.5 * report.output_error
    assert report.errors_when_kept[8] <= report.errors_when_kept[1]

    plan = keep_worst(PLAN, 1, report.ranking.text)
    found = compare_models(original, quantize_model(original, plan))
    assert found.output_error == pytest.approx(report.errors_when_kept[1], rel=1e-3)
    assert f"Kept as they were: {bad} (error of the output" in found.text

    files = {"all": PLAN, "kept": plan}
    for name, each in files.items():
        quantize_found(source, tmp_path / f"{name}.safetensors", each)
    found = {name: compare_models(original, load(tmp_path / f"{name}.safetensors")) for name in files}
    assert (
        found["kept"].output_error < 0.75 * found["all"].output_error
    )  # the stock loader rounds activations, too
    assert f"Kept as they were: {bad} (error of the output" in found["kept"].text
    assert "Kept as they were" not in found["all"].text


@pytest.mark.parametrize("name", PROMPTS)
def test_other_families_are_ranked_by_a_step_of_their_own(name, tmp_path):
    family, bad = FAMILIES[name], PROMPTS[name][-1]
    source = write_weights(tmp_path / "plain.safetensors", spoil(family.weights(), bad))
    original = load(source)
    report = compare_models(original, quantize_model(original, PLAN), prompt(name), rank=True)
    assert next(iter(report.ranking.errors)) == bad
    assert len(report.ranking.errors) == quantize_found(source, tmp_path / "all.safetensors", PLAN).num_layers
    quantize_found(source, tmp_path / "int8.safetensors", keep_worst(PLAN, 1, report.ranking.text))
    found = compare_models(original, load(tmp_path / "int8.safetensors"), prompt(name))
    assert found.output_error < report.output_error
    assert f"Kept as they were: {bad}" in found.text


def test_another_family_wants_a_prompt():
    original = comfy.sd.load_diffusion_model_state_dict(FAMILIES["Wan 2.1"].weights())
    with pytest.raises(ValueError, match=r"This is a WAN21.*connect positive"):
        compare_models(original, quantize_model(original, PLAN))


def test_two_families_are_two_models():
    one, other = (comfy.sd.load_diffusion_model_state_dict(FAMILIES[n].weights()) for n in ("Wan 2.1", "SD3"))
    with pytest.raises(ValueError, match="two different models: WAN21 and SD3"):
        compare_models(one, other, prompt("Wan 2.1"))
