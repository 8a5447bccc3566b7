"""The distillation experiment, end to end: teachers, few-step students, ablations, guidance, tables and plots.

python3 dev.py train experiment --plan subset --seeds 0 --processes 2
python3 dev.py train experiment --plan full --seeds 0 1 2 3 4

Every student and every row of the tables is saved at once; the same command continues where it stopped. A student that
was trained with other settings or by another teacher is refused; a row of other weights is measured again.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from ...model_patches.store.files import write_text
from ...model_patches.training.batch import ClipSource
from ...model_patches.training.checkpoint import fingerprint
from ...model_patches.training.config import DistillConfig, current_names
from ...model_patches.training.distill import Task, distill
from ..models.answers import AnsweredSource
from ..models.data import Encoders, decode_clips, load
from ..models.drift import DriftingSource, load_drift
from ..models.futures import load_futures
from ..models.handovers import played_hand_overs
from ..models.player import Player, Sampling
from ..models.run import stage_dir
from ..models.source import NAMED, OPEN, HeldOutSource, WorldSource
from .curve import Curve
from .features import feature_net
from .guidance_error import guidance_errors
from .jobs import Job, TeacherRows, jobs_of, share
from .judge import FRECHET, judge, measure_coverage, reference_features, summarise
from .plan import PLANS, Plan
from .student_files import LORA, MADE_OF, START, check_same_student, read_made_of, save_model
from .students import ARMS, CURVE, GUIDANCE_W, PLAYED_OPEN_SHARE, PLAYED_WINDOWS, Arm, Student

TEST_SEED = 10_000
"""The number of clips is added: another number draws other scenes, and the cache is by seed."""


def teacher_weights(arm: str, *, train: bool) -> dict[str, Tensor]:
    """Return the arm's teacher in the host's names, trained or resumed first if ``train``."""
    stages = ARMS[arm].stages
    path = stage_dir(stages[-1]) / "dit.safetensors"
    if train:
        from ..models import dit

        for stage in stages:
            dit.STAGES[stage]()
    if not path.exists():
        raise SystemExit(
            f"There is no {arm} teacher yet: run `python3 dev.py train {stages[-1]}`, or add --train-teachers."
        )
    return {key: value.float() for key, value in load_file(path).items()}


class Experiment:
    """One seed of a plan, in a folder of its own."""

    def __init__(self, plan: Plan, seed: int, folder: Path, *, train_teachers: bool = False) -> None:
        self.plan, self.seed, self.folder = plan, seed, folder / f"seed{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.teachers = {arm: teacher_weights(arm, train=train_teachers) for arm in ("t2v", "ti2v")}
        self.train_set, self.train_scenes = load("train", 8000, seed=1, available=True)
        self.drift = load_drift(self.train_set, self.train_scenes)
        self.test_set, self.scenes = load("test", plan.clips, seed=TEST_SEED + plan.clips)
        self.decode = partial(decode_clips, Encoders.load_vae())
        self.net = feature_net()
        self._references: dict[tuple, Tensor] = {}

    def run(self) -> None:
        """Do everything that is not done yet."""
        for job in jobs_of(self.plan):
            self.do(job)

    def do(self, job: Job) -> None:
        """Train and judge a student, or judge a teacher; results that exist are kept."""
        work = job.work
        if isinstance(work, TeacherRows):
            self.rows(f"{work.arm}_teacher", work.arm, Sampling(work.steps, guidance_w=GUIDANCE_W), True)
            return
        self.train(work)
        config = self.config(work)
        if config.stage == "cfg":
            self.guidance_row(work)
        else:
            sampling = Sampling(config.few_steps, config.shift, config.sampler)
            self.rows(work.name, work.arm, sampling, work.image_states)

    def config(self, student: Student) -> DistillConfig:
        return student.config(self.seed, self.plan.updates, self.plan.batch_size)

    def train(self, student: Student) -> None:
        """Train a student or resume its training, and save its curve and weights; one that is done or shipped is kept.

        Raises:
            ValueError: the folder holds a student of that name with other settings, of another teacher or start.
        """
        out = self.folder / f"{student.name}.safetensors"
        config = self.config(student)
        made_of = self.made_of(student)
        if out.exists():
            check_same_student(read_made_of(out), made_of, out)
            return
        self.go_on_after(student)
        start = self.weights(student.start, student.arm) if student.start else {}
        arm = ARMS[student.arm]
        held_out = self.held_out(arm, arm.curve_family, student.image_states)
        curve = Curve(self.folder / f"{student.name}{CURVE}", self.scenes, held_out, self.decode)
        if config.sample_every and not start:
            curve.begin(Player(self.teachers[student.arm]), config)
        elif config.sample_every:
            curve.begin(Player(start), replace(config, guidance_w=0.0))
        task = Task(
            config,
            self.source(student, config),
            self.teachers[student.arm],
            start,
            sample_source=held_out,
            phases=student.lessons.phases,
            identity=student.lessons.changed_values(),
        )
        model = distill(task, self.folder / student.name, on_step=curve)
        if config.train == "lora":
            save_model(model.lora(), self.folder / f"{student.name}{LORA}", made_of)
        save_model(model.full(), out, made_of)

    def made_of(self, student: Student) -> dict[str, object]:
        """Return what a student's weights depend on; the weights it starts from only if that student still exists."""
        start = {}
        if student.start and (self.folder / f"{student.start}.safetensors").exists():
            start[START] = fingerprint(self.weights(student.start, student.arm))
        teacher, clips = fingerprint(self.teachers[student.arm]), len(self.train_set.latents)
        settings = {**asdict(self.config(student)), **student.lessons.changed_values()}
        return {**settings, "weights": teacher, "clips": clips, **start}

    def source(self, student: Student, config: DistillConfig) -> ClipSource:
        """Return a student's training data; for image-to-video, with the drift and hand-overs of long videos."""
        arm = ARMS[student.arm]
        source = WorldSource(
            self.train_set,
            image=arm.image,
            family_shares=student.family_shares or arm.family_shares,
            image_states=student.image_states,
            known_shares=student.known_shares,
        )
        if not arm.image:
            return source
        if not student.long_videos:
            return DriftingSource(source, self.drift)
        weights = self.weights(student.start, student.arm)
        handed = played_hand_overs(
            weights,
            self.train_set,
            self.train_scenes,
            Sampling(config.few_steps, config.shift, config.sampler, seed=self.seed),
            self.folder / f"{student.start}-{fingerprint(weights)}.hand_overs",
            videos=student.long_videos,
            windows=PLAYED_WINDOWS,
            open_share=PLAYED_OPEN_SHARE,
        )
        weighted = student.lessons.ode_choice_weight > 0
        futures = load_futures(self.train_set, self.train_scenes) if weighted else None
        return AnsweredSource(source, self.drift, handed, futures=futures)

    def go_on_after(self, student: Student) -> None:
        """Give a student that has not begun the checkpoint of the one before it; see ``Student.after``."""
        before, folder = self.folder / student.after, self.folder / student.name
        if student.after and before.exists() and not folder.exists():
            shutil.copyfile(
                before.with_name(f"{before.name}{CURVE}"), folder.with_name(f"{folder.name}{CURVE}")
            )
            shutil.copytree(before, folder, ignore=shutil.ignore_patterns("config.json"))

    def held_out(self, arm: Arm, family: int, image_states: bool) -> HeldOutSource:
        return HeldOutSource(self.test_set, image=arm.image, family=family, image_states=image_states)

    def weights(self, name: str, arm: str) -> Mapping[str, Tensor]:
        if name.endswith("_teacher"):
            return self.teachers[arm]
        return load_file(self.folder / f"{name}.safetensors")

    def judged_on(self, *weights: Mapping[str, Tensor], guidance_w: float = 0.0) -> dict[str, object]:
        """Return what a row depends on beside its name: weights, guidance, numbers of clips and prompts."""
        return {
            "weights": [fingerprint(w) for w in weights],
            "clips": self.plan.clips,
            "coverage_prompts": self.plan.coverage_prompts,
            "guidance_w": guidance_w,
        }

    def rows(self, name: str, arm_name: str, sampling: Sampling, image_states: bool) -> None:
        """Judge a model at one number of steps on named and open captions; existing rows of these weights are kept."""
        arm, player, weights = ARMS[arm_name], None, self.weights(name, arm_name)
        judged_on = self.judged_on(weights, guidance_w=sampling.guidance_w)
        for label, family in (("named", NAMED), ("open", OPEN)):
            path = self.folder / "rows" / f"{name}.{sampling.steps}.{label}.json"
            if is_row_of(path, judged_on):
                continue
            player = player or Player(weights)
            source = self.held_out(arm, family, image_states)
            sampling = replace(sampling, seed=self.seed)
            judged = judge(player, source, self.scenes, self.decode, self.net, sampling)
            row: dict[str, object] = summarise(judged, self.reference(source), seed=self.seed)
            if label == "open":
                row["coverage"] = measure_coverage(
                    player, source, self.scenes, self.decode, sampling, prompts=self.plan.coverage_prompts
                )
            row |= {
                "model": name,
                "arm": arm_name,
                "steps": sampling.steps,
                "captions": label,
                "seed": self.seed,
            }
            row |= {"shift": sampling.shift, "sampler": sampling.sampler, "guidance_w": sampling.guidance_w}
            row[MADE_OF] = judged_on
            write_row(path, row)
            print(f"{path.stem}: clean {row['clean_rate']:.3f}, {FRECHET} {row[FRECHET]:.3f}", flush=True)

    def guidance_row(self, student: Student) -> None:
        """Measure how far the guidance-distilled student is from the guided teacher."""
        path = self.folder / "rows" / f"{student.name}.json"
        teacher, weights = self.teachers[student.arm], self.weights(student.name, student.arm)
        judged_on = self.judged_on(teacher, weights)
        if not is_row_of(path, judged_on):
            source = self.held_out(ARMS[student.arm], NAMED, student.image_states)
            errors = guidance_errors(teacher, weights, source)
            write_row(path, {"model": student.name, "seed": self.seed, **errors, MADE_OF: judged_on})

    def reference(self, source: HeldOutSource) -> Tensor:
        key = (source.image, source.family)
        if key not in self._references:
            self._references[key] = reference_features(source, self.decode, self.net)
        return self._references[key]


def is_row_of(path: Path, judged_on: Mapping[str, object]) -> bool:
    """Say whether a row exists and was measured on this."""
    if not path.exists():
        return False
    return current_names(json.loads(path.read_text(encoding="utf-8")).get(MADE_OF, {})) == judged_on


def write_row(path: Path, row: Mapping[str, object]) -> None:
    """Write a row, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(row, indent=1))


def main(arguments: list[str] | None = None) -> None:
    """Run the plan for every seed and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", choices=PLANS, default="subset")
    parser.add_argument("--students", nargs="+", default=[], help="only these of the plan, in this order")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--out", type=Path, default=None, help="folder of everything; the training cache if not given"
    )
    parser.add_argument("--processes", type=int, default=1, help="that share the students and the cores")
    parser.add_argument("--train-teachers", action="store_true", help="train or resume the teachers first")
    args = parser.parse_args(arguments)
    if args.processes < 1:
        parser.error(f"--processes is {args.processes}; 1 or more do the work, at most one a core.")
    args.out = args.out or stage_dir("experiment")
    args.plan = PLANS[args.plan]
    if args.students:
        try:
            args.plan = args.plan.only(args.students)
        except ValueError as error:
            parser.error(str(error))
    for seed in args.seeds:
        make = partial(Experiment, args.plan, seed, args.out)
        experiment = make(train_teachers=args.train_teachers and seed == args.seeds[0])
        if args.processes == 1:
            experiment.run()
        else:  # what they load is there now
            share(jobs_of(args.plan), make, args.processes)
    from .tables import write_report

    write_report(args.out)


if __name__ == "__main__":
    main()
