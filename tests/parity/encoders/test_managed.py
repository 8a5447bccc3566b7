"""Encoders on a processor that is slow at bf16: the weights stay bf16, every layer computes in float32."""

import pytest
import torch
from magic141.tests.support.tiny_encoders import write_clip_folder, write_llava_folder
from magic141.tools.host import use_comfyui

use_comfyui()

from magic141.model_patches.bridge.encoders import managed
from magic141.model_patches.bridge.encoders.socket import load_encoders
from magic141.model_patches.bridge.int8.encoders import quantize_encoders
from magic141.model_patches.int8.quantize import QuantizationPlan

PROMPT = "a large red star moves right"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return write_llava_folder(root / "llava"), write_clip_folder(root / "clip")


@pytest.fixture
def slow_at_bf16(monkeypatch):
    """The processor of the tests may be fast at bf16: decide as a slow one would."""
    monkeypatch.setattr(managed, "is_slow_on_cpu", lambda dtype: True)


def states(backend):
    levels = torch.randint(0, 256, (1, 40, 56, 3), generator=torch.Generator().manual_seed(0))
    return *backend.prompt_states(PROMPT), backend.image_states(list(levels.to(torch.uint8)))


def relative_error(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def exact_backend(folders):
    """Return the same bf16 weights as float32 ones, in plain float32 layers."""
    backend = load_encoders(*folders, "bf16").backend
    backend.vlm.float()
    backend.vlm.activation_dtype = torch.float32
    backend.clip_text.float()
    return backend


def test_states_are_those_of_float32_and_weights_stay_bf16(folders, slow_at_bf16):
    ours = load_encoders(*folders, "bf16").backend
    assert {parameter.dtype for parameter in ours.vlm.parameters()} == {torch.bfloat16}
    prompt, pooled, image = states(ours)
    exact = states(exact_backend(folders))
    assert relative_error(prompt, exact[0]) < 1e-5
    assert relative_error(pooled, exact[1]) < 1e-5
    assert (
        relative_error(image, exact[2]) < 5e-3
    )  # transformers rounds the pixels themselves to the weights' dtype


def test_bf16_layers_alone_are_further_off(folders, monkeypatch):
    monkeypatch.setattr(managed, "is_slow_on_cpu", lambda dtype: False)
    prompt, _, _ = states(load_encoders(*folders, "bf16").backend)
    assert relative_error(prompt, states(exact_backend(folders))[0]) > 1e-3


def test_int8_layers_compute_in_float32_as_well(folders, slow_at_bf16):
    encoders = quantize_encoders(load_encoders(*folders, "bf16"), QuantizationPlan())
    seen = set()
    for module in encoders.backend.vlm.language_model.modules():
        if hasattr(module, "quant_format"):
            module.register_forward_hook(
                lambda module, inputs, output: seen.add((inputs[0].dtype, output.dtype))
            )
    prompt, _, _ = states(encoders.backend)
    assert seen == {(torch.float32, torch.float32)}
    assert relative_error(prompt, states(exact_backend(folders))[0]) < 5e-2
    assert managed.is_slow_on_cpu(torch.bfloat16)
