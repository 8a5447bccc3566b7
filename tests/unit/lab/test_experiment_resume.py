"""What the experiment keeps and what it does again: a folder never mixes teachers, plans or settings."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from magic141.lab.experiment import run as experiment
from magic141.lab.experiment.plan import PLANS
from magic141.lab.experiment.student_files import read_made_of, save_model
from magic141.lab.experiment.students import ABLATIONS, BASE, CHOOSING, LONG, WARM_UP, few_step, ode_only
from magic141.lab.models.player import Sampling
from magic141.model_patches.training.trainer import learning_rate
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import load_file

STUDENT = replace(few_step("ti2v", 2), start="")
ABLATION = next(student for student in ABLATIONS if student.name == "no_normaliser")


@dataclass
class Trained:
    weights: dict

    def full(self):
        return self.weights

    def lora(self):
        return {"diffusion_model.x.lora_A.weight": torch.ones(1, 1)}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return an experiment of which training and judging are counted and not done."""
    bench = experiment.Experiment.__new__(experiment.Experiment)
    bench.plan, bench.seed, bench.folder = PLANS["trial"], 0, tmp_path
    bench.teachers = {"ti2v": tiny_dit()}
    bench.train_set = bench.test_set = SimpleNamespace(latents=torch.zeros(3, 1))
    bench.scenes = bench.decode = bench.net = bench.drift = None
    bench.reference = lambda source: None
    bench.done, bench.starts = [], []

    def distill(task, folder, **options):
        bench.done.append("train")
        bench.starts.append(task.start)
        return Trained({**task.weights, "final_layer.linear.bias": torch.ones(64)})

    monkeypatch.setattr(experiment, "distill", distill)
    monkeypatch.setattr(experiment, "Player", lambda weights: weights)
    monkeypatch.setattr(experiment.Curve, "begin", lambda *args: None)
    monkeypatch.setattr(experiment, "judge", lambda *args: bench.done.append("judge"))
    monkeypatch.setattr(experiment, "summarise", lambda *args, **o: {"clean_rate": 0.5, "tiny_frechet": 1.0})
    monkeypatch.setattr(experiment, "measure_coverage", lambda *args, **o: 0.9)
    return bench


def run(bench) -> list[str]:
    bench.done.clear()
    bench.train(STUDENT)
    bench.rows(STUDENT.name, "ti2v", Sampling(2), True)
    bench.rows("ti2v_teacher", "ti2v", Sampling(2), True)
    return list(bench.done)


def test_what_is_done_is_kept(bench):
    assert run(bench) == ["train", *["judge"] * 4]
    assert run(bench) == []
    assert (bench.folder / f"{STUDENT.name}_lora.safetensors").exists()
    row = json.loads((bench.folder / "rows" / "ti2v_2step.2.open.json").read_text())
    assert row["coverage"] == 0.9
    assert not list(bench.folder.rglob("*.part"))


def test_a_student_that_is_older_than_a_setting_is_kept(bench):
    run(bench)
    file = bench.folder / f"{STUDENT.name}.safetensors"
    made_of = read_made_of(file)
    del made_of["expand_input"]
    save_model(load_file(file), file, made_of | {"dmd_call_shares": [], "ode_choice_weight": 0.0})
    assert run(bench) == []


def test_a_student_of_another_plan_or_teacher_is_refused(bench):
    run(bench)
    bench.plan = replace(bench.plan, updates=100)
    before = BASE.fake_warmup
    changed = rf"total_steps was {before + 2} and is now {before + 100}.*choose another folder"
    with pytest.raises(ValueError, match=changed):
        bench.train(STUDENT)
    bench.plan = PLANS["trial"]
    bench.teachers = {"ti2v": tiny_dit(seed=1)}
    with pytest.raises(ValueError, match="weights was"):
        bench.train(STUDENT)


def test_a_student_of_another_start_is_refused(bench):
    student = few_step("ti2v", 2)
    before, out = (bench.folder / f"{name}.safetensors" for name in (student.start, f"{student.name}"))
    save_model({"x": torch.zeros(2)}, before, {})
    bench.train(student)
    bench.train(student)
    assert bench.done == ["train"]
    save_model({"x": torch.ones(2)}, before, {})
    with pytest.raises(ValueError, match=r"start was .* and is now .*choose another folder"):
        bench.train(student)
    before.unlink()  # nothing to compare with
    bench.train(student)
    save_model({"x": torch.ones(2)}, before, {})
    made_of = {name: value for name, value in read_made_of(out).items() if name != "start"}
    save_model(load_file(out), out, made_of)  # as files were before they said it
    bench.train(student)
    assert bench.done == ["train"]


def test_ablations_share_the_fake_models_warm_up(bench):
    checkpoint = bench.folder / WARM_UP.name / "checkpoints" / "step-000201"
    checkpoint.mkdir(parents=True)
    (bench.folder / WARM_UP.name / "config.json").write_text("{}")
    (bench.folder / f"{WARM_UP.name}.curve.jsonl").write_text("{}\n")
    bench.weights = lambda name, arm: {"started_as": name}
    bench.train(ABLATION)
    copied = bench.folder / ABLATION.name
    assert [file.name for file in copied.iterdir()] == ["checkpoints"]
    assert (copied / "checkpoints" / checkpoint.name).exists()
    assert (bench.folder / f"{ABLATION.name}.curve.jsonl").read_text() == "{}\n"


def test_an_ablation_does_what_the_warm_up_does_until_it_ends():
    warm_up, ablation = (student.config(0, 40, 8) for student in (WARM_UP, ABLATION))
    assert warm_up.total_steps == warm_up.fake_warmup + 1
    assert replace(ablation, total_steps=warm_up.total_steps, normalize=True) == warm_up
    assert [learning_rate(step, ablation) for step in range(201)] == [
        learning_rate(step, warm_up) for step in range(201)
    ]


def test_students_start_as_the_ones_before_them(bench):
    started = []
    bench.weights = lambda name, arm: started.append(name) or {"started_as": name}
    bench.train(few_step("ti2v", 2))
    bench.train(ode_only("ti2v", 2))
    assert started == ["ti2v_2step_ode"]
    assert bench.starts == [{"started_as": "ti2v_2step_ode"}, {}]


def test_students_start_one_after_another_and_learn_along_more_of_the_teachers_steps():
    students = ode_only("ti2v", 4), CHOOSING, LONG
    configs = [student.config(0, 40, 8) for student in students]
    assert [student.start for student in students] == ["", students[0].name, CHOOSING.name]
    assert [c.total_steps for c in configs] == [c.ode_updates for c in configs] == [300, 300, 600]
    assert [c.ode_substeps * c.few_steps for c in configs] == [8, 16, 16]
    assert {c.fake_warmup for c in configs} == {0}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_student_finds_the_one_that_it_starts_as(plan):
    """Of the same steps, and of no higher rank: a LoRA holds the one before it."""
    names = [student.name for student in plan.students]
    students = {student.name: student.config(0, plan.updates, plan.batch_size) for student in plan.students}
    for student in plan.students:
        for before in filter(None, (student.start, student.after)):
            assert names.index(before) < names.index(student.name)
            first, then = students[before], students[student.name]
            assert (first.train, first.few_steps) == (then.train, then.few_steps)
            assert first.rank <= then.rank


def test_a_plan_may_be_cut_to_some_students():
    plan = PLANS["full"].only([LONG.name, CHOOSING.name])
    assert plan.students == (LONG, CHOOSING)
    assert plan.euler_steps == ()
    with pytest.raises(ValueError, match=r"no ti2v_3step\. It has: ti2v_4step_ode, ti2v_4step, "):
        PLANS["full"].only(["ti2v_3step"])


def test_rows_of_other_weights_or_other_clips_are_measured_again(bench):
    run(bench)
    bench.plan = replace(bench.plan, clips=9)
    assert run(bench) == ["judge"] * 4
    bench.done.clear()
    bench.teachers = {"ti2v": tiny_dit(seed=1)}
    bench.rows("ti2v_teacher", "ti2v", Sampling(2), True)
    assert bench.done == ["judge"] * 2


def test_guidance_row_is_of_both_models(bench, monkeypatch):
    student = replace(STUDENT, name="ti2v_cfg")
    monkeypatch.setattr(
        experiment, "guidance_errors", lambda *a: bench.done.append("guide") or {"cfg_rel_error_max": 0.1}
    )
    bench.train(student)
    for teacher in (bench.teachers["ti2v"], bench.teachers["ti2v"], tiny_dit(seed=1)):
        bench.teachers = {"ti2v": teacher}
        bench.guidance_row(student)
    assert bench.done.count("guide") == 2
