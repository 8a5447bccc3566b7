"""Checkpoints through our loader into the host, and what the host computes with them."""

import threading
import time
from pathlib import Path

import pytest
import torch
from magic141.model_patches.dit.keys import host_to_authors
from magic141.tests.support.tiny_dit import TEXT_WIDTH, tiny_dit
from magic141.tools.host import use_comfyui
from safetensors.torch import save_file

use_comfyui()
import comfy.model_base
import comfy.sd
from magic141.model_patches.bridge.loading import PRECISIONS, load_magic141_model


@torch.inference_mode()
def velocity(model, channels=33, guidance=None):
    """Run the DiT of a MODEL on fixed inputs."""
    generator = torch.Generator().manual_seed(3)
    return model.model.diffusion_model(
        torch.randn(1, 33, 3, 6, 8, generator=generator)[:, :channels],
        torch.tensor([833.0]),
        torch.randn(1, 7, TEXT_WIDTH, generator=generator),
        torch.randn(1, 768, generator=generator),
        guidance=None if guidance is None else torch.tensor([guidance]),
    )


def stock(weights):
    return comfy.sd.load_diffusion_model_state_dict(dict(weights))


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize(
    ("channels", "kind"),
    [
        (16, comfy.model_base.HunyuanVideoI2V),
        (32, comfy.model_base.HunyuanVideoSkyreelsI2V),
        (33, comfy.model_base.HunyuanVideoI2V),
    ],
)
@pytest.mark.parametrize("guidance", [None, 6.0])
def test_safetensors(tmp_path, channels, kind, guidance):
    weights = tiny_dit(channels, guidance=guidance is not None)
    save_file(weights, tmp_path / "m.safetensors")
    model, report = load_magic141_model(tmp_path / "m.safetensors")
    assert type(model.model) is kind
    assert model.get_model_object("model_sampling").shift == 5.0
    assert report.is_expanded == (channels == 16)
    ours = velocity(model, 33 if channels == 16 else channels, guidance)
    assert relative_error(ours, velocity(stock(weights), channels, guidance)) < 1e-6


@pytest.mark.parametrize("prefix", ["", "model.", "hydit_unimodel.guidance_model.feedforward_model."])
@pytest.mark.parametrize("key", ["state_dict", "module", None])
def test_authors_pth(tmp_path, prefix, key):
    weights = tiny_dit(33, guidance=True)
    authors = {prefix + k: v for k, v in host_to_authors(weights).items()} | {
        "vae.encoder.weight": torch.zeros(2)
    }
    torch.save({key: authors} if key else authors, tmp_path / "m.pth")
    model, _ = load_magic141_model(tmp_path / "m.pth")
    assert relative_error(velocity(model, guidance=6.0), velocity(stock(weights), guidance=6.0)) < 1e-6


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "module."])
def test_fp8_scaled(tmp_path, prefix):
    weights = tiny_dit(33)
    scaled = {}
    for key, weight in weights.items():
        if weight.ndim == 2 and "blocks" in key:
            scale = weight.abs().max() / 448
            scaled[prefix + key] = (weight / scale).to(torch.float8_e4m3fn)
            scaled[prefix + key.replace(".weight", ".scale_weight")] = scale
        else:
            scaled[prefix + key] = weight
    scaled[prefix + "scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(scaled, tmp_path / "m.safetensors")
    model, report = load_magic141_model(tmp_path / "m.safetensors")
    assert report.checkpoint.weight_type == "float8_e4m3fn scaled"
    assert relative_error(velocity(model).float(), velocity(stock(weights))) < 0.1


@pytest.mark.parametrize(
    "key", ["double_blocks.0.img_mlp.0.weight", "img_in.proj.bias", "final_layer.linear.weight"]
)
def test_nan_weights_are_named(tmp_path, key):
    weights = tiny_dit(33)
    weights[key].view(-1)[7] = float("nan")
    save_file(weights, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=rf"{key} holds NaN"):
        load_magic141_model(tmp_path / "m.safetensors")


def test_a_fresh_copy_for_another_device(tmp_path):
    save_file(tiny_dit(16), tmp_path / "m.safetensors")
    model, _ = load_magic141_model(tmp_path / "m.safetensors")
    factory, arguments = model.cached_patcher_init
    again = factory(*arguments, disable_dynamic=True)
    assert again.model is not model.model
    assert torch.equal(velocity(again), velocity(model))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_precisions_are_those_of_the_stock_loader(tmp_path, precision):
    save_file(tiny_dit(33), tmp_path / "m.safetensors")
    model, _ = load_magic141_model(tmp_path / "m.safetensors", precision=precision)
    theirs = comfy.sd.load_diffusion_model(
        str(tmp_path / "m.safetensors"), model_options=dict(PRECISIONS[precision])
    )
    assert model.model.diffusion_model.dtype == theirs.model.diffusion_model.dtype
    assert relative_error(velocity(model).float(), velocity(theirs).float()) < 1e-6
    factory, arguments = model.cached_patcher_init
    assert factory(*arguments).model.diffusion_model.dtype == theirs.model.diffusion_model.dtype


def anonymous_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to read memory")
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_are_in_memory_once(tmp_path, suffix):
    weights = tiny_dit(16, hidden_size=512, depth=3, depth_single=3)
    size = sum(v.numel() * v.element_size() for v in weights.values())
    path = tmp_path / f"m.{suffix}"
    (save_file(weights, path) if suffix == "safetensors" else torch.save({"module": weights}, path))
    del weights
    peak, done = [0], threading.Event()

    def watch():
        while not done.is_set():
            peak[0] = max(peak[0], anonymous_memory())
            time.sleep(0.002)

    before = anonymous_memory()
    watcher = threading.Thread(target=watch)
    watcher.start()
    model, _ = load_magic141_model(path)
    done.set()
    watcher.join()
    assert model.model_size() > 0.9 * size
    assert peak[0] - before < 1.5 * size
