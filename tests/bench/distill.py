"""Distilled students beside their teacher: clean clips, coverage, tiny-Frechet, guidance, on held-out open captions.

Everything is computed from the weights in ``embedded/models``; latents, text and image states come from the
shipped encoders, clips are decoded and read by the shapes world's own measures. Teacher and student run at shift 5,
the teacher with the guidance that students fold in.
The image-to-video model is the teacher, the students are LoRAs of it; where none ships, only the teacher's figures
are given. A run that was cut goes on from the rows it has finished on the same files; a run that comes to its end
leaves none, so that the next one computes all of them again.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from magic141.lab.experiment.features import feature_net
from magic141.lab.experiment.guidance_error import guidance_errors
from magic141.lab.experiment.judge import (
    FRECHET,
    Player,
    Sampling,
    judge,
    measure_coverage,
    other_future_features,
    reference_features,
    summarise,
)
from magic141.lab.experiment.students import GUIDANCE_W, SHIPPED_STUDENTS
from magic141.lab.models.data import decode_clips
from magic141.lab.models.shipped import (
    GUIDED,
    MODELS,
    TI2V,
    held_out_set,
    shipped_dit,
    shipped_encoders,
    shipped_student,
    shipped_vae_weights,
    student_file,
)
from magic141.lab.models.source import NAMED, OPEN, HeldOutSource
from magic141.lab.models.taehv import narrow_network
from magic141.model_patches.judge.sets import frechet_distance
from magic141.tests.bench.support.finished_rows import FinishedRows, sources_of
from magic141.tools.host import use_comfyui
from torch import Tensor

FEW_STEPS, MANY_STEPS = (4, 2, 1), 56
CLIPS, QUICK_CLIPS = 512, 32
PROMPTS, QUICK_PROMPTS = 48, 4
CHANCES = 8
"""How often a perfect model's choice of futures is drawn."""


def models() -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """Return the teacher, and the students by their number of steps: those whose LoRA ships."""
    teacher = shipped_dit(TI2V)
    if teacher is None:
        raise SystemExit(f"There is no {TI2V} in embedded/models/diffusion_models.")
    students = {steps: shipped_student(teacher, steps) for steps in SHIPPED_STUDENTS}
    return teacher, {steps: student for steps, student in students.items() if student is not None}


class Bench:
    """Held-out scenes, decoder and feature network, and the measures of one model on them.

    size: how many scenes, noises of each and prompts, in words.
    """

    def __init__(self, clips: int, prompts: int, noises: int = 1) -> None:
        use_comfyui()
        self.vae = narrow_network(shipped_vae_weights())
        with torch.no_grad():
            data, self.scenes = held_out_set(shipped_encoders(self.vae), clips, seed=23)
        self.size = f"{clips} scenes, {noises} noises, {prompts} prompts"
        self.noises = noises
        self.decode, self.prompts, self.net = partial(decode_clips, self.vae), prompts, feature_net()
        self.open, self.named = (HeldOutSource(data, image=True, family=f) for f in (OPEN, NAMED))
        self.reference = reference_features(self.open, self.decode, self.net)

    def open_figures(self, name: str, player: Player, sampling: Sampling) -> dict[str, float]:
        """Return what open captions show, each figure named ``{name}{steps}_{measure}``; over all noises at once."""
        parts = [
            judge(player, self.open, self.scenes, self.decode, self.net, replace(sampling, seed=seed))
            for seed in range(self.noises)
        ]
        judged = {measure: torch.cat([part[measure] for part in parts]) for measure in parts[0]}
        return {
            f"{name}{sampling.steps}_{measure.replace('motion_accuracy', 'motion_accuracy_open')}": value
            for measure, value in summarise(judged, self.reference).items()
        }

    def chance_figures(self) -> dict[str, float]:
        """Return the tiny-Frechet of a perfect model, whose every clip is true and goes a way drawn by chance.

        Drawn as often as there are noises; its mean and deviation over ``CHANCES`` such models.
        """
        generator = torch.Generator().manual_seed(0)
        draw = partial(other_future_features, self.open, self.scenes, self.vae, self.net, generator)
        distances = torch.tensor(
            [
                frechet_distance(torch.cat([draw() for _ in range(self.noises)]), self.reference)
                for _ in range(CHANCES)
            ]
        )
        return {f"chance_{FRECHET}": distances.mean().item(), f"chance_{FRECHET}_sd": distances.std().item()}

    def coverage(self, name: str, player: Player, sampling: Sampling) -> dict[str, float]:
        """Return the entropy over allowed futures, open captions."""
        entropy = measure_coverage(
            player, self.open, self.scenes, self.decode, sampling, prompts=self.prompts
        )
        return {f"{name}{sampling.steps}_coverage": entropy}

    def named_accuracy(self, name: str, player: Player, sampling: Sampling) -> dict[str, float]:
        """Return the share of clips that move as a named caption says."""
        judged = judge(player, self.named, self.scenes, self.decode, None, sampling)
        return {f"{name}{sampling.steps}_motion_accuracy": judged["motion_accuracy"].mean().item()}


def guided(steps: int) -> Sampling:
    """Return how the teacher is sampled: two forwards a step."""
    return Sampling(steps, guidance_w=GUIDANCE_W)


def measure(bench: Bench, rows: FinishedRows) -> dict[str, float]:
    """Return all figures that the shipped weights allow."""
    teacher, students = models()
    figures: dict[str, float] = {}

    def row(
        model: str, what: str, of: Callable[..., dict[str, float]], player: Player, sampling: Sampling
    ) -> None:
        name = f"{model}, {sampling.steps} steps, {what}, {bench.size}"
        figures.update(rows.get(name, partial(of, model.split()[0], player, sampling)))

    player = Player(teacher)
    for steps in FEW_STEPS:
        row("teacher", "open", bench.open_figures, player, guided(steps))
    row("teacher", "coverage", bench.coverage, player, guided(4))
    for steps, weights in students.items():
        student, name, sampling = Player(weights), f"student {hash_of(student_file(steps))}", Sampling(steps)
        row(name, "open", bench.open_figures, student, sampling)
        if steps == 4:
            row(name, "coverage", bench.coverage, student, sampling)
            row(name, "named", bench.named_accuracy, student, sampling)
    row("teacher", "open", bench.open_figures, player, guided(MANY_STEPS))
    row("teacher", "named", bench.named_accuracy, player, guided(MANY_STEPS))
    figures |= rows.get(f"chance, {bench.size}", bench.chance_figures)
    figures |= comparisons(figures, students)
    return figures | guidance_figures(bench, teacher)


def hash_of(file: str) -> str:
    """Return the start of a shipped file's SHA-256."""
    return hashlib.sha256((MODELS / file).read_bytes()).hexdigest()[:8]


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
    parser.add_argument(
        "--noises",
        type=int,
        default=1,
        help="of every open clip (1); 4 tell tiny-Frechet and clean rates apart",
    )
    args = parser.parse_args()
    start = time.monotonic()
    clips, prompts = (QUICK_CLIPS, QUICK_PROMPTS) if args.quick else (CLIPS, PROMPTS)
    bench = Bench(clips, prompts, args.noises)
    rows = FinishedRows(
        args.json.with_suffix(".rows.json"),
        sources_of(Path(__file__), without="loras"),  # a student's rows name its file's hash
    )
    figures = measure(bench, rows) | {"seconds": time.monotonic() - start}
    args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    rows.path.unlink()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
