"""What tells encoders apart, so that no training set of other encoders is taken for one of these."""

from types import SimpleNamespace

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import comfy.model_management
import comfy.sd
from magic141.model_patches.bridge.fingerprint import encoders_fingerprint
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_lora import apply_lora, lora_for


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(tiny_dit(33))


@pytest.mark.parametrize("route", ["full", "bypass"])
def test_a_lora_on_the_text_encoder_makes_other_encoders(model, route):
    """Any patcher will do: the host's CLIP holds its own as ``patcher``."""

    def encoders(patcher):
        return SimpleNamespace(backend=SimpleNamespace(clip=SimpleNamespace(patcher=patcher)))

    with torch.inference_mode():
        changed = encoders(apply_lora(model, lora_for(model, 0.1), route))
        before = encoders_fingerprint(changed)
        assert before != encoders_fingerprint(encoders(model))
        comfy.model_management.load_models_gpu([changed.backend.clip.patcher])
        try:
            assert encoders_fingerprint(changed) == before
        finally:
            comfy.model_management.unload_all_models()
