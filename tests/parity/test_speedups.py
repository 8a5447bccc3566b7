"""The host's speed-ups on our MODEL and sampler: attention without masks, torch.compile, EasyCache."""

import pytest
import torch
from magic141.model_patches.int8.quantize import QuantizationPlan
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.support.speedups import compiled, graph_breaks, has_compiler, watched
from magic141.tests.support.tiny_clip import empty_latent, tiny_conditioning
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_encoders import write_clip_folder, write_llava_folder
from magic141.tests.support.tiny_lora import apply_lora, lora_for
from magic141.tools.host import use_comfyui

use_comfyui()
import comfy.patcher_extension
import comfy.sd
from comfy_extras.nodes_easycache import EasyCacheNode
from magic141.model_patches.bridge.encoders.socket import load_encoders
from magic141.model_patches.bridge.int8.model import quantize_model
from magic141.model_patches.bridge.sampling import Sampling, sample_clip
from magic141.nodes.few_step_sampler import FewStepTI2VSampler

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler on a CPU")


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model():
    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(tiny_dit(33))


def clip_of(model, *, steps=2, positive=None, cfg=1.0):
    positive = positive or tiny_conditioning()
    negative = tiny_conditioning(seed=8, tokens=4)
    sampling = Sampling(few_step_sigmas(steps), seed=11, cfg=cfg)
    return sample_clip(model, positive, negative, empty_latent(), sampling)


def relative_error(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_attention_never_has_a_mask(model, tmp_path, cfg):
    encoders = load_encoders(
        write_llava_folder(tmp_path / "llava"), write_clip_folder(tmp_path / "clip"), precision="fp32"
    )
    [[context, encoded]] = encoders.encode("a red star", images=torch.rand(1, 32, 32, 3)).positive
    [[_, condition]] = tiny_conditioning()  # its pooled state has the width that the DiT takes
    watching, seen = watched(model)
    clip_of(watching, positive=[[context, {**encoded, **condition}]], cfg=cfg)
    assert seen.calls > 0
    assert seen.masks == 0


def test_a_mask_would_be_seen(model):
    watching, seen = watched(model)
    [[text, options]] = tiny_conditioning()
    masked = {**options, "attention_mask": torch.ones(text.shape[:2], dtype=torch.long)}
    clip_of(watching, positive=[[text, masked]])
    assert seen.masks > 0


KINDS = {"fp32": None, "int8": QuantizationPlan(), "w8a8": QuantizationPlan("w8a8")}


def one_of_kind(model, kind: str, *, lora: bool):
    """Return the MODEL quantized, or not, and with a LoRA on it, or not."""
    plan = KINDS[kind]
    ours = model if plan is None else quantize_model(model, plan)
    return apply_lora(ours, lora_for(model, 0.3), "full") if lora else ours


def compiled_clip(model, backend: str):
    """Return the clip of a compiled MODEL, and the breaks of its graph."""
    faster, made = compiled(model, backend), []
    breaks = graph_breaks(lambda: made.append(clip_of(faster)))
    return made[0], breaks


with_and_without_lora = pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])


@with_and_without_lora
@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_dit_is_one_graph(model, kind, lora):
    ours = one_of_kind(model, kind, lora=lora)
    clip, breaks = compiled_clip(ours, "eager")  # traced as for any backend, then run as it is
    assert breaks == {}
    assert torch.equal(clip, clip_of(ours))


@needs_compiler
@with_and_without_lora
@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_a_compiled_model_makes_the_same_clip(model, kind, lora):
    ours = one_of_kind(model, kind, lora=lora)
    clip, breaks = compiled_clip(ours, "inductor")
    assert breaks == {}
    assert relative_error(clip, clip_of(ours)) < 1e-4


def calls_counted(model) -> tuple[object, list]:
    """Return a clone of a MODEL that counts how often its DiT is run, and the list that grows."""
    calls, clone = [], model.clone()

    def count(executor, *args, **options):
        calls.append(1)
        return executor(*args, **options)

    clone.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "count", count)
    return clone, calls


@pytest.mark.parametrize("threshold", [0.0, 3.0])
def test_easycache_skips_steps_of_the_sampler(model, threshold):
    """Whatever comes later in the chain of wrappers is not reached in a step that the cache answers."""
    cached = EasyCacheNode.execute(
        model, reuse_threshold=threshold, start_percent=0.0, end_percent=1.0, verbose=False
    ).result[0]
    counting, calls = calls_counted(cached)
    made = FewStepTI2VSampler.execute(
        counting, tiny_conditioning(), tiny_conditioning(), empty_latent(), 8, 5.0, seed=11
    ).result[0]["samples"]
    plain = clip_of(model, steps=8)
    if threshold:
        assert len(calls) < 8
        assert 0 < relative_error(made, plain) < 1
    else:
        assert len(calls) == 8
        assert torch.equal(made, plain)
