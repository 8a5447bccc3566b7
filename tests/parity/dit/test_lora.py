"""LoRA through the host's loader, on 33 channels and on 16 expanded to 33, with weights kept off the device."""

import pytest
import torch
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.support.tiny_clip import LATENT_SHAPE, empty_latent, tiny_conditioning
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tools.host import use_comfyui
from safetensors.torch import save_file

use_comfyui()
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
from magic141.model_patches.bridge.loading import load_magic141_model
from magic141.model_patches.bridge.sampling import Sampling, sample_clip

RANK = 4


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


def low_rank(name: str, out: int, *inside: int) -> dict:
    generator = torch.Generator().manual_seed(out)
    tail = (1,) * (len(inside) - 1)
    return {
        f"{name}.lora_A.weight": torch.randn(RANK, *inside, generator=generator) * 0.2,
        f"{name}.lora_B.weight": torch.randn(out, RANK, *tail, generator=generator) * 0.2,
    }


def lora(channels: int, *, flat: bool = False) -> dict:
    """Return a LoRA in the names HunyuanVideo trainers write, of a model with so many input channels."""
    patch = (channels * 4,) if flat else (channels, 1, 2, 2)
    return (
        low_rank("diffusion_model.img_in.proj", 128, *patch)
        | low_rank("diffusion_model.double_blocks.0.img_attn_qkv", 384, 128)
        | low_rank("diffusion_model.single_blocks.0.linear1", 896, 128)
    )


def with_lora(model, weights):
    return comfy.sd.load_lora_for_models(model, None, dict(weights), 1.0, 0.0)[0]


def sample(model, conditioning):
    return sample_clip(model, conditioning, conditioning, empty_latent(), Sampling(few_step_sigmas(2), 1))


def stock_sample(model, conditioning):
    noise = comfy.sample.prepare_noise(torch.zeros(LATENT_SHAPE), 1)
    euler = comfy.samplers.ksampler("euler")
    empty = torch.zeros(LATENT_SHAPE)
    return comfy.sample.sample_custom(
        model, noise, 1.0, euler, few_step_sigmas(2), conditioning, conditioning, empty, seed=1
    )


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.fixture
def expanded(tmp_path):
    save_file(tiny_dit(16), tmp_path / "t2v.safetensors")
    return load_magic141_model(tmp_path / "t2v.safetensors")[0]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("sampler", [sample, stock_sample])
def test_lora_of_16_channels_on_the_expanded_model(expanded, sampler, flat):
    text_only = tiny_conditioning(image=False)
    plain = comfy.sd.load_diffusion_model_state_dict(tiny_dit(16))
    theirs = stock_sample(with_lora(plain, lora(16)), text_only)
    assert relative_error(theirs, stock_sample(plain, text_only)) > 1e-2
    assert relative_error(sampler(with_lora(expanded, lora(16, flat=flat)), text_only), theirs) < 1e-5


def test_lora_of_16_channels_on_an_image_model_of_any_loader():
    weights = tiny_dit(33)
    model = comfy.sd.load_diffusion_model_state_dict(dict(weights))
    factors = lora(16)
    merged = dict(weights)
    up, down = (
        factors["diffusion_model.img_in.proj.lora_B.weight"],
        factors["diffusion_model.img_in.proj.lora_A.weight"],
    )
    merged["img_in.proj.weight"] = weights["img_in.proj.weight"].clone()
    merged["img_in.proj.weight"][:, :16] += (up.flatten(1) @ down.flatten(1)).view(128, 16, 1, 2, 2)
    for name, key in [
        ("double_blocks.0.img_attn_qkv", "double_blocks.0.img_attn.qkv"),
        ("single_blocks.0.linear1",) * 2,
    ]:
        up, down = (factors[f"diffusion_model.{name}.lora_{ab}.weight"] for ab in "BA")
        merged[f"{key}.weight"] = weights[f"{key}.weight"] + up @ down
    conditioning = tiny_conditioning()
    theirs = sample(comfy.sd.load_diffusion_model_state_dict(merged), conditioning)
    assert relative_error(sample(with_lora(model, factors), conditioning), theirs) < 1e-5


def test_lora_of_33_channels_uses_the_image(expanded):
    model = with_lora(expanded, lora(33))
    here, there = tiny_conditioning(), tiny_conditioning()
    there[0][1]["concat_latent_image"] = -there[0][1]["concat_latent_image"]
    assert relative_error(sample(model, here), sample(model, there)) > 1e-3


def test_lora_of_another_model_is_refused(expanded):
    with pytest.raises(ValueError, match="48 input channels"):
        sample(
            with_lora(expanded, low_rank("diffusion_model.img_in.proj", 128, 48, 1, 2, 2)),
            tiny_conditioning(),
        )


@pytest.mark.parametrize("budget_bytes", [0.1, 500_000], ids=["novram", "lowvram"])
@pytest.mark.parametrize("patched", [False, True], ids=["plain", "lora"])
def test_weights_off_the_device(expanded, monkeypatch, budget_bytes, patched):
    """What the host's --novram and --lowvram do: all or most weights stay off the device and are cast when used."""
    model, conditioning = (
        with_lora(expanded, lora(16)) if patched else expanded,
        tiny_conditioning(image=patched),
    )
    theirs = sample(model, conditioning)
    comfy.model_management.unload_all_models()
    load = comfy.model_management.LoadedModel.model_load
    monkeypatch.setattr(
        comfy.model_management.LoadedModel,
        "model_load",
        lambda self, memory=0, force_patch_weights=False: load(self, budget_bytes, force_patch_weights),
    )
    ours = sample(model, conditioning)
    assert model.model.model_lowvram
    assert relative_error(ours, theirs) < 1e-5
    comfy.model_management.unload_all_models()
