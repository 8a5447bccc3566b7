"""sample_clip and its nodes against a plain loop, diffusers, stock samplers and each other."""

import pytest
import torch
from magic141.model_patches.dit.diffusers_config import diffusers_config
from magic141.model_patches.dit.keys import host_to_diffusers
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
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced
from magic141.model_patches.bridge.loading import load_magic141_model
from magic141.model_patches.bridge.sampling import LowNoiseModel, Sampling, renoise_seed, sample_clip
from magic141.nodes.few_step_sampler import FewStepSchedule, FewStepTI2VSampler

SCALING_FACTOR = 0.476986
SEED = 11


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


def stock_model(channels=33, **options):
    return comfy.sd.load_diffusion_model_state_dict(tiny_dit(channels, **options))


@pytest.fixture
def model():
    return stock_model()


def sample(model, positive=None, latent=None, *, negative=None, steps=4, callback=None, **options):
    positive = positive or tiny_conditioning()
    sampling = Sampling(**{"sigmas": few_step_sigmas(steps), "seed": SEED} | options)
    return sample_clip(
        model, positive, negative or positive, latent or empty_latent(), sampling, callback=callback
    )


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_whole_clip_against_diffusers(model, steps):
    diffusers = pytest.importorskip("diffusers")
    weights = tiny_dit(33)
    theirs = diffusers.HunyuanVideoTransformer3DModel(**diffusers_config(weights)).eval()
    theirs.load_state_dict(host_to_diffusers(weights), strict=True)
    [[text, options]] = tiny_conditioning()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)
    scheduler.set_timesteps(sigmas=torch.linspace(1.0, 0.0, steps + 1)[:-1].tolist())
    condition = torch.cat(
        [options["concat_latent_image"] * SCALING_FACTOR, 1.0 - options["concat_mask"]], dim=1
    )
    x = comfy.sample.prepare_noise(torch.zeros(LATENT_SHAPE), SEED)
    for timestep in scheduler.timesteps:
        v = theirs(
            torch.cat([x, condition], dim=1),
            timestep[None],
            text,
            torch.ones(text.shape[:2], dtype=torch.long),
            options["pooled_output"],
            return_dict=False,
        )[0]
        x = scheduler.step(v, timestep, x, return_dict=False)[0]
    assert relative_error(sample(model, steps=steps), x / SCALING_FACTOR) < 1e-4


def our_fresh_noise(seed=SEED):
    generator = torch.Generator().manual_seed(renoise_seed(seed, 1.0))
    return lambda sigma, sigma_next: torch.randn(LATENT_SHAPE, generator=generator)


@pytest.mark.parametrize(("ours", "stock"), [("euler", "euler"), ("renoise", "lcm")])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_against_the_hosts_sampler(model, ours, stock, cfg):
    positive, negative = tiny_conditioning(), tiny_conditioning(seed=8, tokens=4)
    theirs = comfy.sample.sample_custom(
        model,
        comfy.sample.prepare_noise(torch.zeros(LATENT_SHAPE), SEED),
        cfg,
        comfy.samplers.ksampler(stock, {"noise_sampler": our_fresh_noise()} if ours == "renoise" else {}),
        few_step_sigmas(4),
        positive,
        negative,
        torch.zeros(LATENT_SHAPE),
        seed=SEED,
    )
    mine = sample(model, positive, negative=negative, cfg=cfg, sampler=ours)
    assert relative_error(mine, theirs) < 1e-5


def test_stock_ksampler_on_our_loaded_model(tmp_path):
    """Shift 5 is on the model, so the host's simple schedule of 4 steps is ours."""
    save_file(tiny_dit(33), tmp_path / "m.safetensors")
    model, _ = load_magic141_model(tmp_path / "m.safetensors")
    positive = tiny_conditioning()
    theirs = comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(torch.zeros(LATENT_SHAPE), SEED),
        4, 1.0, "euler", "simple", positive, positive, torch.zeros(LATENT_SHAPE), seed=SEED,
    )  # fmt: skip
    assert relative_error(sample(model, positive), theirs) < 1e-5


def sample_with_schedule_node(model, sampler="euler"):
    sigmas, sampler_object = FewStepSchedule.execute(4, 5.0, sampler).result
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tiny_conditioning(), tiny_conditioning())
    output = SamplerCustomAdvanced.execute(
        Noise_RandomNoise(SEED), guider, sampler_object, sigmas, empty_latent()
    )
    return output.result[0]["samples"]


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_schedule_node_in_sampler_custom_advanced_equals_the_sampler_node(model, sampler):
    positive = tiny_conditioning()
    node = FewStepTI2VSampler.execute(
        model, positive, positive, empty_latent(), 4, 5.0, cfg=1.0, seed=SEED, sampler=sampler
    )
    assert torch.equal(node.result[0]["samples"], sample_with_schedule_node(model, sampler))


def test_seed_decides(model):
    assert torch.equal(sample(model, seed=1), sample(model, seed=1))
    assert not torch.equal(sample(model, seed=1), sample(model, seed=2))
    assert torch.equal(sample(model, seed=1, sampler="renoise"), sample(model, seed=1, sampler="renoise"))


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_cancel_stops_within_one_step(model, sampler):
    steps = []

    def callback(step, x0, x, total_steps):
        steps.append(step)
        if step == 1:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(model, steps=8, sampler=sampler, callback=callback)
    assert steps == [0, 1]


def test_preview_is_told_every_step(model):
    seen = []
    sample(model, callback=lambda step, x0, x, total: seen.append((step, x0.shape, total)))
    assert seen == [(i, torch.Size(LATENT_SHAPE), 4) for i in range(4)]


def test_an_empty_image_latent_is_one_frame():
    clip = sample(stock_model(16), tiny_conditioning(image=False), {"samples": torch.zeros(1, 16, 6, 8)})
    assert clip.shape == (1, 16, 1, 6, 8)


def test_text_to_video_model_runs_without_an_image_with_and_without_surgery(tmp_path):
    save_file(tiny_dit(16), tmp_path / "m.safetensors")
    expanded, _ = load_magic141_model(tmp_path / "m.safetensors")
    text_only = tiny_conditioning(image=False)
    theirs = sample(stock_model(16), text_only)
    assert relative_error(sample(expanded, text_only), theirs) < 1e-5
    with pytest.raises(ValueError, match=r"text-to-video model, which ignores it.*disconnect the image"):
        sample(expanded, tiny_conditioning(image=True))


def test_guidance_is_taken_from_the_conditioning():
    model = stock_model(guidance=True)
    weak, strong = (
        sample(model, tiny_conditioning(guidance=1.0)),
        sample(model, tiny_conditioning(guidance=6.0)),
    )
    assert relative_error(weak, strong) > 1e-3


BAD = {
    "no guidance": ({"guidance": True}, {}, {}, "embeds the guidance strength"),
    "no image": ({}, {"image": False}, {}, "no start image"),
    "no known frame": ({}, {"concat_mask": torch.ones(1, 1, *LATENT_SHAPE[2:])}, {}, "no start image"),
    "no mask": ({}, {"mask": False}, {}, "no mask"),
    "image for a text model": ({"channels": 16}, {}, {}, "text-to-video model, which ignores it"),
    "another width": ({"text_width": 128}, {}, {}, "64 wide and this model wants 128"),
    "no pooled": ({}, {"pooled_output": None}, {}, "no pooled CLIP-L output"),
    "other channels": ({}, {}, {"shape": (1, 8, 3, 6, 8), "fill": 1.0}, "latent has shape"),
    "odd size": ({}, {}, {"shape": (1, 16, 3, 5, 8)}, "multiples of 16 pixels"),
    "other size": ({}, {}, {"shape": (1, 16, 3, 6, 10)}, "64x48 pixels, the latent 80x48"),
    "more frames": ({}, {}, {"shape": (1, 16, 5, 6, 8)}, "made for 9 frames, the latent has 17"),
    "fewer frames": ({}, {}, {"shape": (1, 16, 2, 6, 8)}, "made for 9 frames, the latent has 5"),
}


@pytest.mark.parametrize("case", BAD)
def test_faults_are_said_before_any_step(case):
    model_options, conditioning, latent, said = BAD[case]
    model = stock_model(
        **({"channels": model_options.pop("in_channels")} if "in_channels" in model_options else {}),
        **model_options,
    )
    samples = torch.full(latent.get("shape", LATENT_SHAPE), latent.get("fill", 0.0))
    with pytest.raises(ValueError, match=said):
        sample(
            model,
            tiny_conditioning(**conditioning),
            {"samples": samples},
            callback=lambda *args: pytest.fail("sampling started"),
        )


def test_a_model_with_other_noise_levels_is_named(model):
    class Epsilon(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    model.add_object_patch("model_sampling", Epsilon(model.model.model_config))
    with pytest.raises(ValueError, match=r"HunyuanVideoI2V\) was not trained by flow matching"):
        sample(model)
    with pytest.raises(ValueError, match="was not trained by flow matching"):
        sample_with_schedule_node(model)


def test_known_frames_alone_are_padded_by_the_host(model):
    """The stock HunyuanImageToVideo gives an image latent of the known frames and a mask of the whole clip."""
    whole, short = tiny_conditioning(), tiny_conditioning()
    short[0][1]["concat_latent_image"] = short[0][1]["concat_latent_image"][:, :, :1]
    assert torch.equal(sample(model, short), sample(model, whole))


def test_nan_weights_are_named_at_the_first_step(model):
    model.model.diffusion_model.double_blocks[0].img_mlp[0].weight.data[3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"double_blocks\.0\.img_mlp\.0\.weight holds NaN"):
        sample(model)


def first_noise_of_renoise(model, seed):
    """Return the fresh noise in the second step, worked out from the states that the callback sees."""
    seen = []
    sample(model, sampler="renoise", seed=seed, callback=lambda step, x0, x, total: seen.append((x0, x)))
    (x0, _), (_, state), *_ = seen
    sigma = few_step_sigmas(4)[1]
    return (state - (1 - sigma) * x0) / sigma


def test_fresh_noise_is_no_other_seeds_starting_noise(model):
    fresh = first_noise_of_renoise(model, SEED)
    for other in (SEED - 1, SEED, SEED + 1):
        starting = comfy.sample.prepare_noise(torch.zeros(LATENT_SHAPE), other)
        assert abs(torch.corrcoef(torch.stack([fresh.flatten(), starting.flatten()]))[0, 1]) < 0.2


def test_the_largest_seed_has_fresh_noise(model):
    assert sample(model, sampler="renoise", seed=2**64 - 1).isfinite().all()


def count_model_calls(model) -> list[int]:
    """Note the batch rows of every model call: 1 without guidance, 2 with it."""
    rows = []

    def wrapper(apply_model, options):
        rows.append(len(options["cond_or_uncond"]))
        return apply_model(options["input"], options["timestep"], **options["c"])

    model.set_model_unet_function_wrapper(wrapper)
    return rows


@pytest.mark.parametrize(
    ("cfg_steps", "expected"), [(0, [2, 2, 2, 2]), (1, [2, 1, 1, 1]), (3, [2, 2, 2, 1]), (9, [2, 2, 2, 2])]
)
def test_guidance_in_the_first_steps_only(model, cfg_steps, expected):
    rows = count_model_calls(model)
    negative = tiny_conditioning(seed=8)
    sample(model, negative=negative, cfg=3.0, cfg_steps=cfg_steps)
    assert rows == expected


def test_guidance_in_the_first_step_equals_two_stock_samplers(model):
    positive, negative, latent = tiny_conditioning(), tiny_conditioning(seed=8), torch.zeros(LATENT_SHAPE)
    noise, sigmas = comfy.sample.prepare_noise(latent, SEED), few_step_sigmas(4)
    for cfg, part in ((3.0, sigmas[:2]), (1.0, sigmas[1:])):
        latent = comfy.sample.sample_custom(
            model, noise, cfg, comfy.samplers.ksampler("euler"), part, positive, negative, latent, seed=SEED
        )
        noise = torch.zeros_like(latent)
    assert relative_error(sample(model, negative=negative, cfg=3.0, cfg_steps=1), latent) < 1e-5


@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_one_model_as_both_experts_is_that_model(model, sampler):
    seen, low_noise = [], LowNoiseModel(model, 0.9)
    both = sample(
        model,
        sampler="euler",
        low_noise=low_noise,
        callback=lambda step, x0, x, total: seen.append((step, total)),
    )
    assert seen == [(i, 4) for i in range(4)]
    assert relative_error(both, sample(model, sampler="euler")) < 1e-5
    assert sample(model, sampler=sampler, low_noise=low_noise).isfinite().all()


@pytest.mark.parametrize(
    ("switch_sigma", "said"),
    [(0.5, "model_low_noise has nothing to do"), (1.01, "1.01 model has nothing to do")],
)
def test_an_expert_without_a_step_is_named(model, switch_sigma, said):
    with pytest.raises(ValueError, match=said):
        sample(model, low_noise=LowNoiseModel(model, switch_sigma))


def test_two_experts_refuse_a_noise_mask(model):
    latent = empty_latent() | {"noise_mask": torch.ones(1, 1, 3, 6, 8)}
    with pytest.raises(ValueError, match="has a noise mask"):
        sample(model, latent=latent, low_noise=LowNoiseModel(model, 0.9))
