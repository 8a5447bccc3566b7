"""A trained LoRA in the host: stock loading finds every key, and the host computes what the twin computed."""

import logging

import pytest
import torch
from magic141.model_patches.training import twin
from magic141.model_patches.training.adapters import (
    STUDENT,
    Role,
    adapter_parameters,
    add_adapters,
    lora_for_host,
    merge_lora,
)
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.lora
import comfy.sd


@pytest.fixture(scope="module")
def trained():
    """Return a twin whose student adapter holds random values."""
    model = twin.from_host(tiny_dit())
    add_adapters(model, {STUDENT: 3}, seed=0)
    generator = torch.Generator().manual_seed(4)
    for parameter in adapter_parameters(model, STUDENT).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def test_stock_loading_takes_every_key_and_patches_as_merged(trained, caplog):
    weights = {k: v.detach() for k, v in adapter_parameters(trained, STUDENT).items()}
    lora = lora_for_host(weights)
    model = comfy.sd.load_diffusion_model_state_dict(tiny_dit())
    with caplog.at_level(logging.WARNING):
        patched, _ = comfy.sd.load_lora_for_models(model, None, dict(lora), 1.0, 0.0)
    assert "not loaded" not in caplog.text
    assert len(patched.patches) == len(lora) // 2
    merged = merge_lora(tiny_dit(), lora)
    for key in patched.patches:
        name = key.removeprefix("diffusion_model.")
        weight = tiny_dit()[name]
        computed = comfy.lora.calculate_weight(patched.patches[key], weight.clone(), key)
        assert torch.allclose(computed, merged[name], atol=1e-5), name


@torch.inference_mode()
def test_the_host_with_the_lora_computes_what_the_twin_does(trained):
    weights = {k: v.detach() for k, v in adapter_parameters(trained, STUDENT).items()}
    host = comfy.sd.load_diffusion_model_state_dict(merge_lora(tiny_dit(), lora_for_host(weights)))
    source = TinySource()
    batch = source.batch(torch.tensor([0]), torch.Generator().manual_seed(1))
    mask = torch.ones_like(batch.mask)  # the host averages over all tokens, padding too
    noisy, sigma = (
        torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(2)),
        torch.tensor([0.7]),
    )
    known = twin.known_channels(batch.latents, batch.num_known)
    conditions = twin.Conditions(known, batch.states, mask, batch.pooled, None)
    ours = Role(trained, {STUDENT: 1.0}).velocity(noisy, sigma, conditions)
    dit = host.model.diffusion_model.float()
    theirs = dit(torch.cat([noisy, known], 1), sigma * 1000, context=batch.states, y=batch.pooled)
    assert torch.allclose(ours, theirs, atol=2e-3), (ours - theirs).abs().max()
