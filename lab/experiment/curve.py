"""Judge a student's sample clips while it trains."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...model_patches.training.config import DistillConfig
from ...model_patches.training.trainer import StepReport, sample_generator
from .. import world
from ..models.player import Player, Sampling
from ..models.source import HeldOutSource
from ..world.quality import judge_clips

Decode = Callable[[Tensor], Tensor]


class Curve:
    """Judges a student's sample clips in training and writes a line each time: the data of Fig. 5."""

    def __init__(self, path: Path, scenes: world.Scenes, source: HeldOutSource, decode: Decode) -> None:
        self.path, self.scenes, self.source, self.decode = path, scenes, source, decode

    def begin(self, teacher: Player, config: DistillConfig) -> None:
        """Write the line of update 0: the teacher at the student's number of steps, guided as the student will be.

        Its noise is that of the student's samples: other noise alone changes the clean share of 64 clips by 0.1.
        """
        if self.path.exists():
            return
        rows = torch.arange(min(config.sample_clips, len(self.source)))
        sampling = Sampling(config.few_steps, config.shift, config.sampler, config.guidance_w)
        samples = teacher.sample(self.source.batch(rows), sampling, generator=sample_generator(config))
        self(StepReport(0, 0, config.total_steps, {}, None, samples))

    def __call__(self, report: StepReport) -> None:
        """Judge a report's samples and add a line: updates of the student, clean clips, motion and losses."""
        if report.step % 10 == 0:
            losses = " ".join(f"{k} {v:.4g}" for k, v in report.losses.items())
            print(f"{self.path.stem} {report.step}/{report.total}: {losses}", flush=True)
        if report.samples is None:
            return
        rows = torch.arange(len(report.samples))
        clean = judged_clean(self.decode(report.samples), self.scenes[rows], self.source, rows)
        line = {"update": report.updates, "clean": clean, "motion": report.motion, **report.losses}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def judged_clean(frames: Tensor, scenes: world.Scenes, source: HeldOutSource, rows: Tensor) -> list[int]:
    """Return 1 for every clean clip, else 0."""
    return judge_clips(frames, scenes, source.data.allowed[rows, source.family])["clean_rate"].int().tolist()
