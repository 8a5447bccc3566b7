"""Which networks a stage builds: precision, what is frozen, shared and checkpointed, and on which device they work."""

import contextlib
import warnings
from dataclasses import replace

import pytest
import torch
from magic141.model_patches.dit.keys import PART_TO_HOST
from magic141.model_patches.training import stages
from magic141.model_patches.training.adapters import (
    FAKE,
    STUDENT,
    Role,
    adapted_modules,
    adapter_parameters,
    add_adapters,
)
from magic141.model_patches.training.networks import build_networks
from magic141.model_patches.training.sampling import draw_sigma
from magic141.model_patches.training.stages import Micro
from magic141.model_patches.training.twin import Conditions, from_host, takes_image, with_guidance
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY

BIAS = "double_blocks.0.img_mlp.0.bias"
TWINS_BIAS = "transformer_blocks.0.ff.net.0.proj.bias"


def base_parameters(model) -> dict:
    return {name: p for name, p in model.named_parameters() if ".lora_" not in name}


def test_frozen_weights_are_shared_and_those_that_learn_are_copies():
    host = tiny_dit()
    lora = build_networks(TINY, host, "cpu").student.model
    frozen = {name.replace(".base_layer", ""): p for name, p in base_parameters(lora).items()}
    assert frozen[TWINS_BIAS].data_ptr() == host[BIAS].data_ptr()
    assert not any(p.requires_grad for p in frozen.values())
    whole = build_networks(replace(TINY, train="full"), host, "cpu")
    model, teacher = whole.student.model, whole.teacher.model
    assert dict(model.named_parameters())[TWINS_BIAS].data_ptr() != host[BIAS].data_ptr()
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in base_parameters(teacher).values())
    assert not model.training


def test_trained_weights_are_float32_whatever_the_precision():
    config = replace(TINY, precision="bfloat16")
    lora = build_networks(config, tiny_dit(), "cpu")
    model = lora.student.model
    assert {p.dtype for p in base_parameters(model).values()} == {torch.bfloat16}
    for name in (STUDENT, FAKE):
        assert {p.dtype for p in adapter_parameters(model, name).values()} == {torch.float32}
    assert all(role.precision == "bfloat16" for role in (lora.student, lora.teacher, lora.real, lora.fake))
    whole = build_networks(replace(config, train="full"), tiny_dit(dtype=torch.bfloat16), "cpu")
    assert {p.dtype for p in whole.student.model.parameters()} == {torch.float32}
    assert {p.dtype for p in base_parameters(whole.teacher.model).values()} == {torch.bfloat16}


@pytest.mark.parametrize("wanted", [True, False])
def test_blocks_are_computed_again_in_backward_where_that_is_set(wanted):
    networks = build_networks(replace(TINY, gradient_checkpointing=wanted), tiny_dit(), "cpu")
    assert networks.student.model.is_gradient_checkpointing is wanted


@pytest.mark.parametrize("channels", [16, 33])
def test_networks_know_whether_their_weights_take_known_frames(channels):
    assert build_networks(TINY, tiny_dit(channels), "cpu").image == (channels == 33)


def test_a_cfg_student_has_an_embedder_that_its_teacher_has_not():
    networks = build_networks(replace(TINY, stage="cfg", train="full"), tiny_dit(), "cpu")
    assert [role.model.config.guidance_embeds for role in (networks.student, networks.teacher)] == [
        True,
        False,
    ]


def test_a_model_of_other_input_channels_is_refused():
    with pytest.raises(ValueError, match="The model has 20 input channels; 16 or 33 are needed"):
        takes_image(tiny_dit(20))


def test_adapters_lie_on_every_linear_of_the_blocks_and_of_the_output():
    host = {PART_TO_HOST[name.replace(".0.", ".{i}.", 1)] for name in adapted_modules(from_host(tiny_dit()))}
    linears = {name.removesuffix(".weight") for name, value in tiny_dit().items() if value.ndim == 2}
    blocks = {name for name in linears if name.startswith(("double_blocks.", "single_blocks."))}
    wanted = {name.replace(".0.", ".{i}.", 1) for name in blocks}
    assert host == wanted | {"final_layer.linear", "final_layer.adaLN_modulation.1"}


def test_two_adapters_of_their_own_rank_and_draw_are_added_without_a_warning():
    made = []
    for seed in (1, 1, 2):
        model = from_host(tiny_dit(), dtype=torch.bfloat16)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            add_adapters(model, {STUDENT: 2, FAKE: 3}, seed=seed)
        made.append({name: adapter_parameters(model, name) for name in (STUDENT, FAKE)})
    for name, rank in ((STUDENT, 2), (FAKE, 3)):
        first, same, other = (each[name] for each in made)
        downs = [key for key in first if ".lora_A." in key]
        assert {first[key].shape[0] for key in downs} == {rank}
        assert all(p.dtype == torch.float32 and p.requires_grad for p in first.values())
        assert all(torch.equal(first[key], same[key]) for key in first)
        assert not any(torch.equal(first[key], other[key]) for key in downs)


def test_a_role_computes_in_its_precision_and_answers_in_float32():
    model = from_host(tiny_dit())
    batch = TinySource().batch(torch.arange(2), torch.Generator().manual_seed(0))
    asked = (batch.latents, torch.full((2,), 0.5), Conditions.of(batch, image=True))
    with torch.no_grad():
        full, quick = (Role(model, precision=name).velocity(*asked) for name in ("float32", "bfloat16"))
        assert torch.equal(Role(model).velocity(*asked), full)
    assert full.dtype == quick.dtype == torch.float32
    assert 1e-4 < (full - quick).norm() / full.norm() < 0.05


def test_a_twin_may_share_its_weights_or_hold_copies():
    host = tiny_dit()
    copied, shared = (dict(from_host(host, share=share).named_parameters()) for share in (False, True))
    assert copied[TWINS_BIAS].data_ptr() != host[BIAS].data_ptr()
    assert shared[TWINS_BIAS].data_ptr() == host[BIAS].data_ptr()
    with torch.inference_mode():
        of_the_host = tiny_dit()
    twin = from_host(of_the_host, share=True)
    assert not any(p.is_inference() for p in twin.parameters())
    assert all(p.requires_grad for p in twin.parameters())


def test_a_new_embedder_is_the_times_own_with_an_output_of_zero():
    host = tiny_dit()
    added = {k: v for k, v in with_guidance(host).items() if k not in host}
    assert set(added) == {k.replace("time_in.", "guidance_in.") for k in host if k.startswith("time_in.")}
    for key, value in added.items():
        source = host[key.replace("guidance_in.", "time_in.")]
        assert value.data_ptr() != source.data_ptr()
        assert torch.equal(value, source if ".in_layer." in key else torch.zeros_like(source))


@pytest.fixture
def on_meta(monkeypatch):
    """Return a micro-batch of a stage whose networks and clips lie on a device that refuses tensors of another."""
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # it does not know that device

    def make(guidance: bool = True, **changes) -> Micro:
        config = replace(TINY, **changes)
        networks = build_networks(config, tiny_dit(guidance=guidance), "meta")
        generator = torch.Generator().manual_seed(0)
        batch = TinySource().batch(torch.arange(2), generator).to("meta")
        return Micro(config, networks, batch, generator, 1)

    return make


def test_all_that_is_drawn_lies_where_the_clips_do(on_meta):
    micro = on_meta()
    assert micro.noise().is_meta
    assert micro.sigma(draw_sigma).is_meta
    assert micro.conditions(scale=6.0).guidance.is_meta


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
@pytest.mark.parametrize("losses", [stages.generator_losses, stages.fake_losses, stages.ode_losses])
def test_every_loss_of_dmd2_is_computed_where_the_networks_lie(on_meta, losses, sampler):
    found = losses(on_meta(guidance_w=1.0, sampler=sampler, few_steps=3))
    assert all(value.is_meta for value in found.values())


@pytest.mark.parametrize("stage", ["flow", "cfg"])
@pytest.mark.parametrize("drop_caption", [0.0, 0.99])
def test_every_other_loss_is_computed_where_the_networks_lie(on_meta, stage, drop_caption):
    losses = {"flow": stages.flow_losses, "cfg": stages.cfg_losses}[stage]
    found = losses(on_meta(stage=stage, drop_caption=drop_caption))
    assert all(value.is_meta for value in found.values())
