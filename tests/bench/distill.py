"""Distilled students beside their teacher: clean clips, coverage, tiny-Frechet, guidance, on held-out open captions.

Everything is computed now from the weights in ``embedded/models``; latents, text and image states come from the
shipped encoders, clips are decoded and read by the shapes world's own measures. Teacher and student run at shift 5,
the teacher with the guidance that students fold in.
The image-to-video model is the teacher, the students are LoRAs of it; where none ships, only the teacher's figures
are given.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from magic141.embedded.train.experiment_plan import GUIDANCE
from magic141.embedded.train.features import feature_net
from magic141.embedded.train.guidance_error import guidance_errors
from magic141.embedded.train.judge import (
    FRECHET,
    Player,
    Sampling,
    judge,
    measure_coverage,
    reference_features,
    summarise,
)
from magic141.embedded.train.shipped import (
    GUIDED,
    STUDENT_STEPS,
    TI2V,
    ShippedEncoders,
    held_out_set,
    shipped_dit,
    shipped_student,
    shipped_vae_weights,
)
from magic141.embedded.train.source import NAMED, OPEN, HeldOutSource
from magic141.tests.support.host import use_comfyui
from torch import Tensor

TEACHER_STEPS, NAMED_STEPS = (56, 4, 2, 1), 56
CLIPS, QUICK_CLIPS = 512, 32
PROMPTS, QUICK_PROMPTS = 48, 4


def models() -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """Return the teacher, and the students by their number of steps: those whose LoRA ships."""
    teacher = shipped_dit(TI2V)
    if teacher is None:
        raise SystemExit(f"There is no {TI2V} in embedded/models/diffusion_models.")
    students = {steps: shipped_student(teacher, steps) for steps in STUDENT_STEPS}
    return teacher, {steps: student for steps, student in students.items() if student is not None}


class Bench:
    """Held-out scenes, decoder and feature network, and the measures of one model on them."""

    def __init__(self, clips: int, prompts: int) -> None:
        use_comfyui()
        from magic141.tests.support.narrow_vae import narrow_network

        vae = narrow_network(shipped_vae_weights())
        with torch.no_grad():
            data, self.scenes = held_out_set(ShippedEncoders(vae), clips, seed=23)
        self.decode, self.prompts, self.net = torch.no_grad()(vae.decode), prompts, feature_net()
        self.open, self.named = (HeldOutSource(data, image=True, family=f) for f in (OPEN, NAMED))
        self.reference = reference_features(self.open, self.decode, self.net)

    def open_figures(self, name: str, player: Player, sampling: Sampling) -> Iterator[tuple[str, float]]:
        """Yield what open captions show, each figure named ``{name}{steps}_{measure}``."""
        judged = judge(player, self.open, self.scenes, self.decode, self.net, sampling)
        for measure, value in summarise(judged, self.reference).items():
            yield (
                f"{name}{sampling.steps}_{measure.replace('motion_accuracy', 'motion_accuracy_open')}",
                value,
            )

    def coverage(self, player: Player, sampling: Sampling) -> float:
        return measure_coverage(player, self.open, self.scenes, self.decode, sampling, prompts=self.prompts)

    def named_accuracy(self, player: Player, sampling: Sampling) -> float:
        judged = judge(player, self.named, self.scenes, self.decode, None, sampling)
        return judged["motion_accuracy"].mean().item()


def guided(steps: int) -> Sampling:
    """Return how the teacher is sampled: two forwards a step."""
    return Sampling(steps, cfg_strength=GUIDANCE)


def measure(bench: Bench) -> dict[str, float]:
    """Return all figures that the shipped weights allow."""
    teacher, students = models()
    player, figures = Player(teacher), {}
    for steps in TEACHER_STEPS:
        figures |= dict(bench.open_figures("teacher", player, guided(steps)))
        print(f"teacher, {steps} steps: clean {figures[f'teacher{steps}_clean_rate']:.3f}", flush=True)
    figures["teacher56_motion_accuracy"] = bench.named_accuracy(player, guided(NAMED_STEPS))
    figures["teacher4_coverage"] = bench.coverage(player, guided(4))
    for steps, weights in students.items():
        student = Player(weights)
        figures |= dict(bench.open_figures("student", student, Sampling(steps)))
        print(f"student, {steps} steps: clean {figures[f'student{steps}_clean_rate']:.3f}", flush=True)
        if steps == 4:
            figures["student4_coverage"] = bench.coverage(student, Sampling(4))
            figures["student4_motion_accuracy"] = bench.named_accuracy(student, Sampling(4))
    figures |= comparisons(figures, students)
    return figures | guidance_figures(bench, teacher)


def comparisons(figures: dict[str, float], students: Iterable[int]) -> dict[str, float]:
    """Return these students against their teacher: gains in clean rate and the ratio of tiny-Frechet distances."""
    compared = {}
    if 4 in students:
        gain = figures["student4_clean_rate"] - figures["teacher56_clean_rate"]
        ratio = figures[f"student4_{FRECHET}"] / figures[f"teacher56_{FRECHET}"]
        compared |= {"student4_clean_rate_minus_teacher56": gain, f"student4_{FRECHET}_over_teacher56": ratio}
    if 2 in students:
        gain = figures["student2_clean_rate"] - figures["teacher2_clean_rate"]
        compared["student2_clean_rate_minus_teacher2"] = gain
    return compared


def guidance_figures(bench: Bench, teacher: dict[str, Tensor]) -> dict[str, float]:
    """Return the guidance-distilled student's relative error, where one ships."""
    student = shipped_dit(GUIDED)
    return {} if student is None else guidance_errors(teacher, student, bench.named)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CLIPS} clips instead of {CLIPS}")
    args = parser.parse_args()
    start = time.monotonic()
    bench = Bench(*(QUICK_CLIPS, QUICK_PROMPTS) if args.quick else (CLIPS, PROMPTS))
    figures = measure(bench) | {"seconds": time.monotonic() - start}
    args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
