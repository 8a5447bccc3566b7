"""The diffusers twin: surgery, guidance embedder, adapters and roles."""

import pytest
import torch
from magic141.model_patches.dit.channels import expand_input_channels
from magic141.model_patches.dit.keys import diffusers_to_host
from magic141.model_patches.training import twin
from magic141.model_patches.training.adapters import (
    FAKE,
    STUDENT,
    Role,
    adapter_parameters,
    add_adapters,
    lora_for_host,
    merge_lora,
)
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource


def inputs(num_known: int = 1, count: int = 2):
    source = TinySource(num_known)
    batch = source.batch(torch.arange(count), torch.Generator().manual_seed(1))
    noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(2))
    return batch, noisy, torch.tensor([0.3, 0.9][:count])


@pytest.mark.parametrize("patch", [1, 2])
def test_a_twin_gives_its_weights_back(patch):
    host = tiny_dit(patch=patch)
    back = diffusers_to_host(twin.from_host(host).state_dict())
    assert set(back) == set(host)
    assert all(torch.equal(back[key], host[key]) for key in host)


def test_a_missing_weight_is_refused():
    host = tiny_dit()
    del host["double_blocks.0.img_mod.lin.bias"]
    with pytest.raises(RuntimeError, match=r"transformer_blocks\.0\.norm1\.linear\.bias"):
        twin.from_host(host)


def test_surgery_changes_nothing_at_first():
    text, image = (twin.from_host(host) for host in (tiny_dit(16), expand_input_channels(tiny_dit(16))))
    batch, noisy, sigma = inputs()
    with torch.no_grad():
        before = twin.predict_velocity(text, noisy, sigma, twin.Conditions.of(batch, image=False))
        after = twin.predict_velocity(image, noisy, sigma, twin.Conditions.of(batch, image=True))
    assert torch.allclose(before, after, atol=1e-6)
    assert twin.takes_image(expand_input_channels(tiny_dit(16)))
    assert not twin.takes_image(tiny_dit(16))


def test_a_new_guidance_embedder_changes_nothing_at_first():
    host = tiny_dit()
    guided = twin.from_host(twin.with_guidance(host))
    batch, noisy, sigma = inputs()
    unscaled = twin.Conditions.of(batch, image=True)
    scaled = twin.Conditions.of(batch, image=True, guidance=torch.tensor([1.0, 7.0]))
    with torch.no_grad():
        before = twin.predict_velocity(twin.from_host(host), noisy, sigma, unscaled)
        ignored = twin.predict_velocity(twin.from_host(host), noisy, sigma, scaled)
        after = twin.predict_velocity(guided, noisy, sigma, scaled)
    assert torch.equal(before, ignored), "a model without an embedder ignores the scale"
    assert torch.allclose(before, after, atol=1e-6)


def test_known_channels():
    latents = torch.ones(2, 16, 3, 4, 4)
    known = twin.known_channels(latents, torch.tensor([0, 2]))
    assert known.shape == (2, 17, 3, 4, 4)
    assert known[0].abs().max() == 0
    assert known[1, :, :2].min() == 1
    assert known[1, :, 2].abs().max() == 0


def shaken(model, adapter: str, seed: int) -> None:
    """Give an adapter's zero factors values, as if it had learned."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter_parameters(model, adapter).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


def test_roles_are_adapter_weights():
    host = tiny_dit()
    model = twin.from_host(host)
    add_adapters(model, {STUDENT: 4, FAKE: 2}, seed=0)
    batch, noisy, sigma = inputs()
    conditions = twin.Conditions.of(batch, image=True)

    def velocity(**weights):
        with torch.no_grad():
            return Role(model, weights).velocity(noisy, sigma, conditions)

    base = twin.from_host(host)
    plain = Role(base, {}).velocity(noisy, sigma, conditions).detach()
    assert torch.allclose(velocity(student=1.0), plain, atol=1e-6)  # adapters start at zero
    shaken(model, STUDENT, 1)
    shaken(model, FAKE, 2)
    assert torch.allclose(velocity(), plain, atol=1e-6)
    real, fake = velocity(fake=0.25), velocity(fake=1.0)
    assert 0 < (real - plain).norm() < (fake - plain).norm()
    merged = merge_lora(host, lora_for_host(adapter_values(model), STUDENT))
    student = Role(twin.from_host(merged), {}).velocity(noisy, sigma, conditions).detach()
    assert torch.allclose(velocity(student=1.0), student, atol=1e-4)
    assert (student - plain).norm() > 1e-2


def adapter_values(model) -> dict:
    return {k: v.detach() for k, v in adapter_parameters(model, STUDENT).items()}


def test_checkpointed_backward_needs_and_gets_the_role():
    """Another role's forward comes between a student's forward and its backward, as in DMD2."""
    gradients = []
    for checkpointed in (False, True):
        model = twin.from_host(tiny_dit())
        add_adapters(model, {STUDENT: 4, FAKE: 4}, seed=0)
        shaken(model, STUDENT, 1)
        shaken(model, FAKE, 2)
        if checkpointed:
            model.enable_gradient_checkpointing()
        batch, noisy, sigma = inputs()
        conditions = twin.Conditions.of(batch, image=True)
        student, fake = Role(model, {STUDENT: 1.0}), Role(model, {FAKE: 1.0})
        loss = student.velocity(noisy, sigma, conditions).square().mean()
        with torch.no_grad():
            fake.velocity(noisy, sigma, conditions)
        student.activate()
        loss.backward()
        gradients.append([p.grad for p in adapter_parameters(model, STUDENT).values()])
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*gradients, strict=True))
    assert max(g.abs().max() for g in gradients[0]) > 0


def test_the_message_without_the_training_packages(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match="pip install diffusers peft"):
        twin.require_training_packages()


@pytest.mark.parametrize("image", [False, True])
def test_conditions_are_those_of_the_prompt_unless_the_empty_one_is_asked_for(image):
    batch, _, _ = inputs()
    prompted, empty = (twin.Conditions.of(batch, image=image, **empty) for empty in ({}, {"empty": True}))
    for found, states, mask, pooled in (
        (prompted, batch.states, batch.mask, batch.pooled),
        (empty, batch.null_states, batch.null_mask, batch.null_pooled),
    ):
        assert found.states is states
        assert found.mask is mask
        assert found.pooled is pooled
        assert found.guidance is None
        assert (found.known is None) is not image


def test_a_twin_is_told_noise_level_and_guidance_in_thousandths():
    told = {}

    def model(**arguments):
        told.update(arguments)
        return (arguments["hidden_states"].bfloat16(),)

    batch, noisy, sigma = inputs()
    conditions = twin.Conditions.of(batch, image=True, guidance=torch.tensor([1.0, 6.0]))
    velocity = twin.predict_velocity(model, noisy, sigma, conditions)
    assert velocity.dtype == torch.float32
    assert torch.equal(told["timestep"], sigma * 1000)
    assert told["guidance"].tolist() == [1000, 6000]
    known = twin.known_channels(batch.latents, batch.num_known)
    assert torch.equal(told["hidden_states"], torch.cat([noisy, known], 1))
    assert told["encoder_hidden_states"] is batch.states
    assert told["encoder_attention_mask"] is batch.mask
    assert told["pooled_projections"] is batch.pooled
    twin.predict_velocity(model, noisy, sigma, twin.Conditions.of(batch, image=False))
    assert told["guidance"] is None
    assert torch.equal(told["hidden_states"], noisy)
