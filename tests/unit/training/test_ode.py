"""A student follows the teacher's ODE first: what it learns, in which of its calls, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from magic141.model_patches.training.stages import phases
from magic141.tests.support.tiny_training import TINY, train


def test_the_teachers_ode_comes_first(tmp_path):
    config = replace(TINY, total_steps=5, ode_updates=2, critic_warmup=1, guidance=1.0, save_every=1)
    stop = iter([False, False, True])
    _, reports = train(config, tmp_path, should_stop=lambda: next(stop))
    model, later = train(config, tmp_path)
    assert [set(r.losses) for r in (*reports, *later)] == [
        {"ode"},
        {"ode"},
        {"critic"},
        {"critic", "generator", "gradient"},
        {"critic", "generator", "gradient"},
    ]
    whole, at_once = train(config, tmp_path / "whole")
    assert [r.losses for r in at_once] == [r.losses for r in (*reports, *later)]
    assert all(torch.equal(whole.lora()[name], weight) for name, weight in model.lora().items())


def test_a_student_learns_the_teachers_ode(tmp_path):
    config = replace(TINY, total_steps=30, ode_updates=30, ode_learning_rate=3e-3, rank=8, ode_substeps=4)
    _, reports = train(config, tmp_path)
    losses = [r.losses["ode"] for r in reports]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_one_substep_without_guidance_is_what_the_teacher_does(tmp_path):
    config = replace(TINY, total_steps=1, ode_updates=1, ode_substeps=1)
    _, reports = train(config, tmp_path)
    assert reports[0].losses["ode"] < 1e-10


def test_calls_learn_the_ode_as_often_as_their_shares():
    networks = SimpleNamespace(student=None, fake=SimpleNamespace())
    generator = torch.Generator().manual_seed(0)
    config = replace(TINY, ode_updates=1, ode_call_shares=(1.0, 3.0))
    (ode,), dmd2_phases = (phases(config, networks, step) for step in (0, 1))
    for phase, second_call in ((ode, 0.75), (dmd2_phases[-1], 0.5)):
        drawn = [phase.draw_last_call(config, generator) for _ in range(400)]
        assert sum(drawn) / len(drawn) == pytest.approx(second_call, abs=0.07)
    last_alone = replace(config, ode_call_shares=(), dmd_call_shares=(0.0, 1.0))
    for phase in phases(last_alone, networks, 1):
        assert {phase.draw_last_call(last_alone, generator) for _ in range(40)} == {1}
    only_first = replace(ode, call_shares=(1.0, 0.0))
    assert {only_first.draw_last_call(config, generator) for _ in range(40)} == {0}


def test_a_run_with_shares_of_calls_goes_on(tmp_path):
    config = replace(TINY, total_steps=3, ode_updates=3, ode_call_shares=(1.0, 3.0))
    stop = iter([False, True])
    train(config, tmp_path, should_stop=lambda: next(stop))
    _, reports = train(config, tmp_path)
    assert [report.step for report in reports] == [2, 3]


def test_shares_of_calls_that_are_not_there_are_refused():
    for name in ("ode_call_shares", "dmd_call_shares"):
        for shares in ((1.0,), (1.0, -1.0), (0.0, 0.0)):
            with pytest.raises(ValueError, match=f"{name} is .* wanted 2 numbers, one a step of the student"):
                replace(TINY, **{name: shares})
    with pytest.raises(ValueError, match="shares are of the ode_updates"):
        replace(TINY, ode_call_shares=(1.0, 2.0))
    for settings in ({"stage": "flow"}, {"ode_updates": TINY.total_steps}):
        with pytest.raises(
            ValueError, match=r"dmd_call_shares is \[1\.0, 2\.0\], but none of the updates is one of DMD2"
        ):
            replace(TINY, dmd_call_shares=(1.0, 2.0), **settings)


def test_a_weight_of_choices_without_what_it_weighs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ode_choice_weight is 30 and ode_updates 0"):
        replace(TINY, ode_choice_weight=30.0)
    with pytest.raises(ValueError, match="this data does not know which clips could follow"):
        train(replace(TINY, ode_updates=1, ode_choice_weight=30.0), tmp_path)


def test_the_teachers_ode_needs_dmd2():
    with pytest.raises(ValueError, match='need stage "dmd2"'):
        replace(TINY, stage="flow", ode_updates=1)
