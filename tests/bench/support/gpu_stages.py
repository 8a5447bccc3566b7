"""The stages of the bench on an accelerator: what each makes with random weights, and what it measures."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.bench.dit import STEPS, Size, conditioning
from magic141.tests.bench.support.gpu_models import FULL, KINDS, TINY, Machine, hunyuan_vae, llava
from magic141.tests.support.speedups import watched
from torch import Tensor

Figures = dict[str, float]


def make_clip(model, size: Size, steps: int = STEPS) -> Tensor:
    from magic141.model_patches.bridge.sampling import Sampling, sample_clip

    condition, latent = conditioning(size), {"samples": torch.zeros(size.latent_shape)}
    return sample_clip(model, condition, condition, latent, Sampling(few_step_sigmas(steps), seed=0))


# --- the stages ---------------------------------------------------------------------------------------------


def matmul(machine: Machine) -> Figures:
    """The speed of a large matrix product in bf16, which every share is a share of."""
    return {"matmul_ceiling_tflops": machine.ceiling_tflops}


def sampling(machine: Machine, kind: str, clip: str) -> Figures:
    """Four steps of a clip through the sampler."""
    size, model = machine.sizes.clips[clip], machine.dit(kind)
    clip_s, peak = machine.timed(partial(make_clip, model, size), partial(make_clip, model, size, 1))
    step_s, name = clip_s / STEPS, f"{kind}_{clip}"
    return {
        f"{name}_clip_s": clip_s,
        f"{name}_step_s": step_s,
        f"{name}_share_of_matmul_ceiling": size.tera_flop_a_step / step_s / machine.ceiling_tflops,
        f"{name}_peak_gib": peak,
        f"{kind}_weights_gb": model.model_size() / 1e9,
    }


def attention(machine: Machine) -> Figures:
    """One step of the shortest clip with each kind of attention that this host has; no call may have a mask."""
    from comfy.ldm.modules.attention import REGISTERED_ATTENTION_FUNCTIONS

    size, model = machine.sizes.clips[machine.shortest], machine.dit("bf16")
    figures: Figures = {}
    for name, function in REGISTERED_ATTENTION_FUNCTIONS.items():
        if name in ("sub_quad", "split") and machine.device.type == "cuda":
            continue  # for cards without anything faster
        chosen = model.clone()
        override = partial(_attend_with, function)
        chosen.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = override
        step = partial(make_clip, chosen, size, 1)
        seconds, peak = machine.timed(step, step)
        figures |= {f"attention_{name}_step_s": seconds, f"attention_{name}_peak_gib": peak}
    watching, seen = watched(model)
    make_clip(watching, size, 1)
    assert seen.calls, "the DiT called no attention"
    return figures | {"attention_masks_seen": seen.masks}


def _attend_with(function, _usual, *args, **options):
    options.pop("transformer_options", None)  # or the function would come back here
    return function(*args, **options)


def vae_decode(machine: Machine) -> Figures:
    """Decode the longest clip with HunyuanVideo's VAE."""
    vae, size = hunyuan_vae(machine), machine.sizes.clips[machine.longest]
    latent = torch.randn(size.latent_shape)
    seconds, peak = machine.timed(partial(vae.decode, latent), partial(vae.decode, latent[:, :, :2]))
    return {f"vae_decode_{machine.longest}_s": seconds, "vae_decode_peak_gib": peak}


def encode(machine: Machine, kind: str) -> Figures:
    """Encode one picture and a prompt with LLaVA; others each time, so that nothing is remembered."""
    encoders, size, numbers = llava(machine, kind), machine.sizes.clips[machine.shortest], count()

    def encode_new() -> None:
        picture = torch.rand(1, size.height_px, size.width_px, 3)
        encoders.encode(f"a red star {next(numbers)}", images=picture)

    seconds, peak = machine.timed(encode_new, encode_new)
    return {f"llava_{kind}_encode_s": seconds, f"llava_{kind}_peak_gib": peak}


def window(machine: Machine) -> Figures:
    """One whole window of a long video: look, encode, sample, decode, hand over, write."""
    import folder_paths
    from magic141.model_patches.bridge.window.make import Models

    models = Models(machine.dit("bf16"), llava(machine, "bf16"), hunyuan_vae(machine))
    size, before = machine.sizes.clips[machine.shortest], folder_paths.get_output_directory()
    with tempfile.TemporaryDirectory() as folder:
        folder_paths.set_output_directory(folder)
        try:
            seconds, peak = machine.timed(
                partial(_run_window, models, machine), partial(make_clip, models.model, size, 1)
            )
        finally:
            folder_paths.set_output_directory(before)
    return {f"window_{machine.shortest}_s": seconds, "window_peak_gib": peak}


def _run_window(models, machine: Machine) -> None:
    from magic141.tests.support.tiny_windows import SETTINGS, Sources, run_windows

    size = machine.sizes.clips[machine.shortest]
    settings = replace(
        SETTINGS,
        prompts="a red star",
        length=1,
        window_length=size.frames,
        width=size.width_px,
        height=size.height_px,
        steps=STEPS,
        run_name="window",
    )
    run_windows(models, settings, Sources(torch.rand(1, size.height_px, size.width_px, 3)))


EXPERIMENT = (["unpack"], ["data"], ["experiment", "--processes", str(max(1, (os.cpu_count() or 1) // 2))])


def experiment(machine: Machine) -> Figures:
    """Go on with the seeds of the distillation experiment, on the processors, until the time is over."""
    for arguments in EXPERIMENT:
        if machine.sizes is TINY:
            arguments = [*arguments, "--help"]  # the command lines are tried, the training is not
        command = [sys.executable, "-P", "-m", "magic141.lab", *arguments]
        try:
            subprocess.run(command, check=True, timeout=max(1.0, machine.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return {"experiment_finished": 0}
    return {"experiment_finished": 1}


@dataclass(frozen=True)
class Stage:
    """What is measured, and the seconds it is expected to take at full size, weights included."""

    measure: Callable[[Machine], Figures]
    seconds: float


def _sampling_stages() -> dict[str, Stage]:
    clips = list(enumerate(FULL.clips))
    return {
        f"{kind}_{name}": Stage(partial(_sample_nth, kind, index), 50)
        for kind in KINDS
        for index, name in clips
    }


def _sample_nth(kind: str, index: int, machine: Machine) -> Figures:
    return sampling(machine, kind, list(machine.sizes.clips)[index])


STAGES = {
    "matmul": Stage(matmul, 5),
    **_sampling_stages(),
    "attention": Stage(attention, 30),
    "vae_decode": Stage(vae_decode, 30),
    "llava": Stage(lambda machine: encode(machine, "bf16"), 30),
    "llava_int8": Stage(lambda machine: encode(machine, "int8"), 35),
    "window": Stage(window, 60),
    "experiment": Stage(experiment, 60),
}
