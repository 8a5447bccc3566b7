"""The DiT: our sampler over a bare loop of the host's model calls, beside diffusers, and compiled.

On any machine: ``sampler_overhead_ratio`` (whole 4-step clip through ``sample_clip`` over a bare loop of
``apply_model``, both in the host) and ``ratio_vs_diffusers`` (the same clip over diffusers' transformer and
scheduler on the same weights, both with PyTorch attention): medians over interleaved runs of wall-clock ratios.
``compiled_over_eager`` (the same clip through the host's Torch Compile Model over without it; a C++ compiler is needed
on a CPU), how often the compiler left its graph in a block, and how many attention calls had a mask.
The released size has a bench of its own, ``gpu``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from magic141.model_patches.dit.channels import known_frames_condition
from magic141.model_patches.dit.diffusers_config import diffusers_config
from magic141.model_patches.dit.keys import expected_shapes, host_to_diffusers
from magic141.model_patches.sampler import few_step_sigmas
from magic141.tests.support.speedups import compiled, graph_breaks, has_compiler, watched
from magic141.tools.host import use_comfyui
from torch import Tensor

RUNS, QUICK_RUNS, STEPS, SEED = 11, 3, 4, 0
SCALING_FACTOR = 0.476986
TEXT_TOKENS = 256 + 144


@dataclass(frozen=True)
class Size:
    """A DiT and a clip for it."""

    hidden_size: int
    depth: int
    depth_single: int
    text_width: int
    frames: int
    height_px: int
    width_px: int

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (1, 16, (self.frames - 1) // 4 + 1, self.height_px // 8, self.width_px // 8)

    @property
    def num_tokens(self) -> int:
        _, _, frames, height, width = self.latent_shape
        return frames * (height // 2) * (width // 2) + TEXT_TOKENS

    @property
    def tera_flop_a_step(self) -> float:
        """Multiply-adds of the blocks' linear layers and attention, two operations each."""
        blocks, tokens, hidden = self.depth + self.depth_single, self.num_tokens, self.hidden_size
        return blocks * (2 * 12 * tokens * hidden**2 + 4 * tokens**2 * hidden) / 1e12


#: What two CPU cores run in about a second a step.
CPU_SIZE = Size(256, 2, 4, 256, 17, 192, 256)
QUICK_SIZE = Size(128, 1, 1, 128, 9, 96, 128)
GPU_SMALL = Size(1536, 4, 8, 4096, 49, 544, 960)
FULL = {f"{frames}f": Size(3072, 20, 40, 4096, frames, 544, 960) for frames in (81, 121)}


def random_weights(size: Size, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return random weights that all look into one small block of memory, so that 13 B take none of their own."""
    shapes = expected_shapes(
        hidden_size=size.hidden_size,
        depth=size.depth,
        depth_single=size.depth_single,
        text_width=size.text_width,
    )
    largest = max(torch.Size(shape).numel() for shape in shapes.values())
    block = (torch.randn(largest, generator=torch.Generator().manual_seed(SEED)) * 0.02).to(dtype)
    return {key: block[: torch.Size(shape).numel()].view(shape) for key, shape in shapes.items()}


def conditioning(size: Size) -> list:
    generator = torch.Generator().manual_seed(SEED)
    known = torch.randn(1, 16, 1, *size.latent_shape[-2:], generator=generator)
    image, mask = known_frames_condition(known, size.latent_shape[2])
    text = torch.randn(1, TEXT_TOKENS, size.text_width, generator=generator)
    pooled = torch.randn(1, 768, generator=generator)
    return [[text, {"pooled_output": pooled, "concat_latent_image": image, "concat_mask": mask}]]


class Contest:
    """One clip of one DiT, made three ways."""

    def __init__(self, size: Size, dtype: torch.dtype, device: torch.device):
        import comfy.sd

        self.size, self.dtype, self.device = size, dtype, device
        self.weights = random_weights(size, dtype)
        self.model = comfy.sd.load_diffusion_model_state_dict(dict(self.weights))
        self.conditioning = conditioning(size)
        self.sigmas = few_step_sigmas(STEPS)

    def ours(self, model=None) -> Tensor:
        from magic141.model_patches.bridge.sampling import Sampling, sample_clip

        return sample_clip(
            model or self.model,
            self.conditioning,
            self.conditioning,
            {"samples": torch.zeros(self.size.latent_shape)},
            Sampling(self.sigmas, SEED),
            callback=lambda *step: None,
        )

    def bare(self) -> Tensor:
        """Call the host's model and take the Euler step, with nothing in between."""
        model, x, text, condition, pooled = self.model.model, *self._inputs()
        sigmas = self.sigmas.to(self.device)
        for i in range(STEPS):
            x0 = model.apply_model(x, sigmas[i : i + 1], c_concat=condition, c_crossattn=text, y=pooled)
            x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        return x / SCALING_FACTOR

    def make_theirs(self) -> Callable[[], Tensor]:
        """Return the same clip through diffusers' transformer and scheduler."""
        import diffusers

        with torch.device(self.device):
            twin = (
                diffusers.HunyuanVideoTransformer3DModel(**diffusers_config(self.weights))
                .to(self.dtype)
                .eval()
            )
        twin.load_state_dict(host_to_diffusers(self.weights), strict=True)

        def theirs() -> Tensor:
            x, text, condition, pooled = self._inputs()
            scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0)
            scheduler.set_timesteps(
                sigmas=torch.linspace(1.0, 0.0, STEPS + 1)[:-1].tolist(), device=self.device
            )
            mask = torch.ones(text.shape[:2], dtype=torch.long, device=self.device)
            for timestep in scheduler.timesteps:
                inputs = torch.cat([x, condition], dim=1).to(self.dtype)
                v = twin(
                    inputs,
                    timestep[None],
                    text.to(self.dtype),
                    mask,
                    pooled.to(self.dtype),
                    return_dict=False,
                )[0]
                x = scheduler.step(v.float(), timestep, x, return_dict=False)[0]
            return x / SCALING_FACTOR

        return theirs

    def _inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        import comfy.sample

        [[text, options]] = self.conditioning
        noise = comfy.sample.prepare_noise(torch.zeros(self.size.latent_shape), SEED)
        condition = torch.cat(
            [options["concat_latent_image"] * SCALING_FACTOR, 1.0 - options["concat_mask"]], dim=1
        )
        return tuple(t.to(self.device) for t in (noise, text, condition, options["pooled_output"]))


def seconds(run: Callable[[], Tensor]) -> float:
    _synchronize()
    start = time.perf_counter()
    run()
    _synchronize()
    return time.perf_counter() - start


def interleaved(
    run_a: Callable[[], Tensor], run_b: Callable[[], Tensor], runs: int
) -> tuple[float, float, float]:
    """Return the median of time(a) / time(b) over neighbouring runs, and both median times.

    The order turns round at every run, so that neither side always meets the other's leftovers.
    """
    run_a(), run_b()
    pairs = []
    for i in range(runs):
        if i % 2:
            b, a = seconds(run_b), seconds(run_a)
        else:
            a, b = seconds(run_a), seconds(run_b)
        pairs.append((a, b))
    return tuple(
        statistics.median(values) for values in ([a / b for a, b in pairs], *zip(*pairs, strict=True))
    )


def compare(contest: Contest, runs: int) -> dict[str, float]:
    """Measure ours against the bare loop and against diffusers, after checking that they make the same clip."""
    theirs = contest.make_theirs()
    clip, tolerance = contest.ours().to(contest.device), 1e-3 if contest.dtype == torch.float32 else 0.1
    for other in (contest.bare(), theirs()):
        assert (clip - other).norm() / clip.norm() < tolerance, "the sides make different clips"
    overhead, _, bare_s = interleaved(contest.ours, contest.bare, runs)
    ratio, ours_s, theirs_s = interleaved(contest.ours, theirs, runs)
    return {
        "sampler_overhead_ratio": overhead,
        "ratio_vs_diffusers": ratio,
        "clip_s": ours_s,
        "clip_bare_loop_s": bare_s,
        "clip_diffusers_s": theirs_s,
        "runs": runs,
        "tokens": contest.size.num_tokens,
        "hidden_size": contest.size.hidden_size,
        "threads": torch.get_num_threads(),
    }


def host_speedups(contest: Contest, runs: int) -> dict[str, float]:
    """Measure what the host's speed-ups need and bring: no masks in attention, no break in a compiled block."""
    watching, seen = watched(contest.model)
    contest.ours(watching)
    assert seen.calls, "the DiT called no attention"
    figures = {"attention_masks_seen": seen.masks}
    if contest.device.type == "cpu" and not has_compiler():
        return figures
    model, blocks = compiled(contest.model), contest.size.depth + contest.size.depth_single
    breaks = graph_breaks(lambda: contest.ours(model))
    ratio, compiled_s, _ = interleaved(lambda: contest.ours(model), contest.ours, runs)
    return figures | {
        "compile_graph_breaks_per_block": sum(breaks.values()) / blocks,
        "compiled_over_eager": ratio,
        "clip_compiled_s": compiled_s,
    }


def matmul_ceiling(device: torch.device, side: int = 8192) -> float:
    """Return the TFLOP/s of a large bf16 matrix product."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    best = min(seconds(lambda: a @ b) for _ in range(20))
    return 2 * side**3 / best / 1e12


def measure(*, quick: bool) -> dict[str, float]:
    """Run every measurement that suits the machine."""
    has_gpu = torch.cuda.is_available()
    use_comfyui(cpu=not has_gpu)
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    size = QUICK_SIZE if quick else GPU_SMALL if has_gpu else CPU_SIZE
    dtype = torch.bfloat16 if has_gpu else torch.float32
    contest, runs = Contest(size, dtype, device), QUICK_RUNS if quick else RUNS
    return compare(contest, runs) | host_speedups(contest, runs)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with torch.inference_mode():
        figures = measure(quick=options.quick)
    options.json.write_text(json.dumps(figures, indent=1))
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
