"""The sampler on models of other layouts than HunyuanVideo's, against stock samplers: Wan 2.2 with its two experts."""

import pytest
import torch
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_wan import LATENT_SHAPE, tiny_wan, wan_conditioning
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.sd
import comfy.utils
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from magic141.model_patches.bridge.sampling import Sampling, sample_clip
from magic141.nodes.few_step_sampler import FewStepTI2VSampler

import nodes

SEED = 11


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


def wan(seed=0, in_channels=36):
    model = comfy.sd.load_diffusion_model_state_dict(tiny_wan(in_channels, seed=seed))
    return ModelSamplingSD3().patch(model, 5.0)[0]


@pytest.fixture(scope="module")
def experts():
    return wan(0), wan(1)


def empty():
    return {"samples": torch.zeros(LATENT_SHAPE)}


def stock(model, positive, negative, latent, *, cfg=1.0, first, last):
    """Run stock KSamplerAdvanced on steps ``first`` to ``last`` of four, as the template of Wan 2.2 wires it."""
    begins, ends = first == 0, last == 4
    [result] = nodes.KSamplerAdvanced().sample(
        model, "enable" if begins else "disable", SEED, 4, cfg, "euler", "simple", positive, negative, latent,
        first, last, "disable" if ends else "enable",
    )  # fmt: skip
    return result


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize(("cfg", "cfg_steps"), [(1.0, 0), (3.0, 0), (3.0, 2)])
def test_two_experts_equal_two_stock_samplers(experts, cfg, cfg_steps):
    high, low = experts
    positive, negative = wan_conditioning(), wan_conditioning(seed=8)
    half = stock(high, positive, negative, empty(), cfg=cfg, first=0, last=2)
    theirs = stock(low, positive, negative, half, cfg=1.0 if cfg_steps else cfg, first=2, last=4)["samples"]
    ours = FewStepTI2VSampler.execute(
        high,
        positive,
        negative,
        empty(),
        4,
        5.0,
        cfg=cfg,
        seed=SEED,
        sampler="euler",
        cfg_steps=cfg_steps,
        model_low_noise=low,
    ).result[0]["samples"]
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert relative_error(sample(high), theirs) > 1e-3  # the second expert counts


def sample(model, conditioning=None, latent=None, **options):
    conditioning = conditioning or wan_conditioning()
    sampling = Sampling(few_step_sigmas(4), SEED, **options)
    return sample_clip(model, conditioning, conditioning, latent or empty(), sampling)


def test_one_model_equals_the_stock_sampler(experts):
    theirs = stock(experts[0], wan_conditioning(), wan_conditioning(), empty(), first=0, last=4)["samples"]
    assert relative_error(sample(experts[0]), theirs) < 1e-5


def test_text_to_video_needs_no_picture():
    model = wan(in_channels=16)
    conditioning = [[wan_conditioning()[0][0], {}]]
    theirs = stock(model, conditioning, conditioning, empty(), first=0, last=4)["samples"]
    assert relative_error(sample(model, conditioning), theirs) < 1e-5


def test_one_bar_counts_the_steps_of_both_experts(experts):
    told = []
    comfy.utils.set_progress_bar_global_hook(
        lambda value, total, preview, node_id=None: told.append((value, total))
    )
    try:
        positive = wan_conditioning()
        FewStepTI2VSampler.execute(
            experts[0],
            positive,
            positive,
            empty(),
            4,
            5.0,
            cfg=1.0,
            seed=SEED,
            sampler="euler",
            model_low_noise=experts[1],
        )
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    steps = [step for step, _ in told]  # the host leaves out steps that come quickly
    assert steps == sorted(set(steps))
    assert told[-1] == (4, 4)
    assert {total for _, total in told} == {4}


def test_the_host_finds_every_sigma_and_the_next_one_in_sample_sigmas(experts):
    """HunyuanVideo 1.5 (mean flow) looks the next noise level up there and compares floats."""
    seen, sigmas = [], few_step_sigmas(4)

    def note(apply_model, options):
        known = options["c"]["transformer_options"]["sample_sigmas"]
        place = torch.where(options["timestep"][0] == known)[0]
        seen.append((float(options["timestep"][0]), float(known[place[0] + 1])))
        return apply_model(options["input"], options["timestep"], **options["c"])

    high, low = (model.clone() for model in experts)
    for model in (high, low):
        model.set_model_unet_function_wrapper(note)
    FewStepTI2VSampler.execute(
        high,
        wan_conditioning(),
        wan_conditioning(),
        empty(),
        4,
        5.0,
        cfg=1.0,
        seed=SEED,
        sampler="euler",
        model_low_noise=low,
    )
    assert seen == list(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True))


def test_an_empty_latent_of_another_family_takes_this_ones_channels(experts):
    wide = {"samples": torch.zeros(1, 32, 3, 3, 4), "downscale_ratio_spacial": 16}
    assert sample(experts[0], latent=wide).shape == LATENT_SHAPE


def test_a_full_latent_of_another_family_is_named(experts):
    with pytest.raises(
        ValueError, match=r"shape \(1, 48, 3, 6, 8\); this MODEL \(WAN21\) denoises \(batch, 16, frames"
    ):
        sample(experts[0], latent={"samples": torch.ones(1, 48, 3, 6, 8)})


def test_experts_of_two_families_are_refused(experts):
    hunyuan = comfy.sd.load_diffusion_model_state_dict(tiny_dit(33))
    with pytest.raises(ValueError, match="positive conditioning is 4096 wide and this model wants 64"):
        FewStepTI2VSampler.execute(
            experts[0],
            wan_conditioning(),
            wan_conditioning(),
            empty(),
            4,
            5.0,
            cfg=1.0,
            seed=SEED,
            sampler="euler",
            model_low_noise=hunyuan,
        )
