"""A student follows the teacher's ODE first: what it learns, and what is refused."""

from dataclasses import replace

import pytest
import torch
from magic141.tests.support.tiny_training import TINY, train


def test_the_teachers_ode_comes_first(tmp_path):
    config = replace(TINY, total_steps=5, ode_updates=2, fake_warmup=1, guidance_w=1.0, save_every=1)
    _, reports = train(config, tmp_path, stop_after=2)
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


def test_the_teachers_ode_needs_dmd2():
    with pytest.raises(ValueError, match='need stage "dmd2"'):
        replace(TINY, stage="flow", ode_updates=1)
