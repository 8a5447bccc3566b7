"""What tells MODELs apart, so that no window of another model is taken over and none of the same is made again."""

from types import SimpleNamespace

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import comfy.model_management
import comfy.sd
from magic141.model_patches.bridge.fingerprint import encoders_fingerprint, model_fingerprint
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_lora import apply_lora, lora_for


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(tiny_dit(33))


@pytest.mark.parametrize("route", ["full", "bypass"])
def test_a_loaded_model_is_still_the_same_model(model, route):
    with torch.inference_mode():
        with_lora = apply_lora(model, lora_for(model, 0.1), route)
        before = model_fingerprint(model), model_fingerprint(with_lora)
        assert before[0] != before[1]
        comfy.model_management.load_models_gpu([with_lora])
        try:
            assert (model_fingerprint(model), model_fingerprint(with_lora)) == before
        finally:
            comfy.model_management.unload_all_models()


@pytest.mark.parametrize("route", ["full", "bypass"])
def test_another_lora_is_another_model(model, route):
    with torch.inference_mode():
        loras = [lora_for(model, 0.1), lora_for(model, 0.1, seed=4), lora_for(model, 0.2)]
        prints = [model_fingerprint(apply_lora(model, lora, route)) for lora in loras]
    assert len(set(prints)) == len(loras)


def test_a_function_hung_into_the_forward_is_another_model(model):
    def attention(*args, **kwargs):
        raise NotImplementedError

    def wrapper(executor, *args, **kwargs):
        return executor(*args, **kwargs)

    def with_attention():
        patched = model.clone()
        patched.model_options["transformer_options"]["optimized_attention_override"] = attention
        return patched

    wrapped = model.clone()
    wrapped.add_wrapper_with_key("diffusion_model", "a cache", wrapper)
    with torch.inference_mode():
        prints = [model_fingerprint(one) for one in (model, with_attention(), wrapped)]
        assert len(set(prints)) == 3
        assert model_fingerprint(with_attention()) == prints[1]
        assert model_fingerprint(model.clone()) == prints[0]


def test_a_lora_on_the_text_encoder_makes_other_encoders(model):
    """Any patcher will do: the host's CLIP holds its own as ``patcher``."""

    def encoders(patcher):
        return SimpleNamespace(backend=SimpleNamespace(clip=SimpleNamespace(patcher=patcher)))

    with torch.inference_mode():
        changed = encoders(apply_lora(model, lora_for(model, 0.1), "full"))
        before = encoders_fingerprint(changed)
        assert before != encoders_fingerprint(encoders(model))
        comfy.model_management.load_models_gpu([changed.backend.clip.patcher])
        try:
            assert encoders_fingerprint(changed) == before
        finally:
            comfy.model_management.unload_all_models()
