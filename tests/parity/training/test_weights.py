"""Weights out of a MODEL, and what was learned back into one, through the host's own loader and LoRA code."""

import pytest
import torch
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.sd
from magic141.model_patches.bridge.training.weights import free_devices, student_weights, with_lora

NAME = "double_blocks.0.img_mlp.0"


@pytest.fixture
def model():
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(dict(tiny_dit(33)))


def low_rank(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"diffusion_model.{NAME}.lora_A.weight": torch.randn(4, 128, generator=generator),
        f"diffusion_model.{NAME}.lora_B.weight": torch.randn(512, 4, generator=generator),
    }


def taken(model) -> dict[str, torch.Tensor]:
    free_devices()
    with torch.inference_mode(False):
        return student_weights(model)


def test_weights_come_out_as_they_went_in_and_can_be_trained(model):
    weights, given = taken(model), tiny_dit(33)
    assert weights.keys() == given.keys()
    assert all(torch.equal(weights[key].float(), given[key].float()) for key in given)
    assert not any(weight.is_inference() for weight in weights.values())


def test_a_lora_on_the_model_counts_as_part_of_it(model):
    lora = low_rank(0)
    before, after = taken(model), taken(with_lora(model, lora))
    change = (after[f"{NAME}.weight"] - before[f"{NAME}.weight"]).float()
    down, up = lora.values()
    torch.testing.assert_close(change, up @ down, atol=2e-2, rtol=2e-2)
    assert torch.equal(taken(model)[f"{NAME}.weight"], before[f"{NAME}.weight"])


def test_a_second_lora_goes_on_top_of_the_first(model):
    twice = with_lora(with_lora(model, low_rank(0)), low_rank(1))
    assert len(twice.patches[f"diffusion_model.{NAME}.weight"]) == 2


def test_a_quantized_model_is_refused(model):
    with torch.inference_mode():
        module = model.model.diffusion_model.double_blocks[0].img_mlp[0]
        module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"quantized \(double_blocks\.0\.img_mlp\.0\.weight"):
        taken(model)


def test_a_runs_identity_follows_the_strength_of_a_lora(model):
    from magic141.model_patches.bridge.training.folder import identity
    from magic141.model_patches.bridge.training.weights import changed_weights
    from magic141.model_patches.training.config import DistillConfig

    def changed(strength: float):
        with torch.inference_mode():
            return comfy.sd.load_lora_for_models(model, None, low_rank(0), strength, 0.0)[0]

    ids = {identity(DistillConfig(), "data", taken(changed(s)), {}) for s in (0.5, 1.0)}
    plain = taken(model)
    ids |= {identity(DistillConfig(), "data", plain, changed_weights(changed(s), model)) for s in (0.5, 1.0)}
    assert len(ids) == 4
