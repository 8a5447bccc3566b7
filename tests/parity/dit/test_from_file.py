"""Models whose float32 copy would not fit into memory: the same results, from weights that stay in their file."""

import math
import sys
from pathlib import Path

import psutil
import pytest
import torch
from magic141.model_patches.dit.keys import expected_shapes
from magic141.model_patches.dit.stream import TensorWriter
from magic141.model_patches.dit.weights_file import TensorInfo
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tools.host import use_comfyui
from safetensors.torch import save_file

use_comfyui()
import comfy.model_management
from magic141.model_patches.bridge.dit import from_file
from magic141.model_patches.bridge.loading import load_magic141_model
from magic141.tests.support.tiny_lora import apply_lora, lora_for

#: A machine with more gets a model too large to build in a test.
MOST_MEMORY = 64 * 2**30
WIDTH = 3072


@torch.inference_mode()
def velocity(model):
    """Run the DiT of a MODEL on fixed inputs."""
    generator = torch.Generator().manual_seed(3)
    return model.model.diffusion_model(
        torch.randn(1, 33, 3, 6, 8, generator=generator),
        torch.tensor([833.0]),
        torch.randn(1, 7, TEXT_WIDTH, generator=generator),
        torch.randn(1, 768, generator=generator),
    )


def loaded_velocity(model):
    """The same after the host has loaded the model with its patches."""
    comfy.model_management.load_models_gpu([model])
    return velocity(model)


@pytest.fixture
def without_room(monkeypatch):
    """Ask for more than any computer has, as a model of full size does of most."""
    monkeypatch.setattr(from_file, "copied_bytes", lambda weights: 2**60)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_keep_their_type_and_results_are_those_of_the_copy(tmp_path, monkeypatch, dtype):
    path = tmp_path / "m.safetensors"
    save_file({key: weight.to(dtype) for key, weight in tiny_dit(33).items()}, path)
    copied, _ = load_magic141_model(path)
    monkeypatch.setattr(from_file, "copied_bytes", lambda weights: 2**60)
    in_file, _ = load_magic141_model(path)
    assert {parameter.dtype for parameter in copied.model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in in_file.model.parameters()} == {dtype}
    ours, theirs = velocity(in_file), velocity(copied)
    assert (
        ours - theirs
    ).norm() / theirs.norm() < 1e-6  # products may add up in another order at another address


def test_a_text_to_video_file_is_expanded_as_well(tmp_path, without_room):
    save_file({key: weight.bfloat16() for key, weight in tiny_dit(16).items()}, tmp_path / "m.safetensors")
    model, report = load_magic141_model(tmp_path / "m.safetensors")
    assert report.is_expanded
    assert velocity(model).isfinite().all()


def test_a_lora_has_its_effect_and_leaves_the_weights_in_their_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_file({key: weight.bfloat16() for key, weight in tiny_dit(33).items()}, path)
    copied, _ = load_magic141_model(path)
    monkeypatch.setattr(from_file, "copied_bytes", lambda weights: 2**60)
    in_file, _ = load_magic141_model(path)
    lora = lora_for(copied, 0.3)
    places = [parameter.data_ptr() for parameter in in_file.model.parameters()]
    plain = loaded_velocity(copied)
    wanted = loaded_velocity(apply_lora(copied, lora, "full"))
    patched = apply_lora(in_file, lora, "full")
    ours = loaded_velocity(patched)
    assert (ours - wanted).norm() / wanted.norm() < 1e-5
    assert (plain - wanted).norm() / wanted.norm() > 0.1
    assert [parameter.data_ptr() for parameter in patched.model.parameters()] == places
    again = loaded_velocity(in_file)
    assert (again - plain).norm() / plain.norm() < 1e-5


def test_a_quantized_model_is_left_to_the_host():
    weights = {"a.weight": torch.zeros(2, 2), "a.comfy_quant": torch.zeros(1, dtype=torch.uint8)}
    assert from_file.loading_options(weights) == {}


def anonymous_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux refuses what is only read")
def test_a_file_larger_than_memory_becomes_a_model(tmp_path):
    if (memory := psutil.virtual_memory().total + psutil.swap_memory().total) > MOST_MEMORY:
        pytest.skip("this machine has too much memory for the test")
    shapes = {}
    depth = 0
    while 2 * sum(math.prod(shape) for shape in shapes.values()) < memory + 2**30:
        depth += 8
        shapes = expected_shapes(hidden_size=WIDTH, depth=depth, depth_single=depth)
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:  # zeros that take no room on the disk
        TensorWriter(file, {key: TensorInfo("bfloat16", shape) for key, shape in shapes.items()}, {})
    before = anonymous_memory()
    model, _ = load_magic141_model(path)
    assert model.model_size() > memory
    assert anonymous_memory() - before < 2**30
