"""A student is led to the answers that its data know, and by its teacher elsewhere."""

from dataclasses import replace

import pytest
from magic141.tests.support.tiny_source import TinySource

from .test_run import TINY, train


class AnsweredSource(TinySource):
    """Rows from ``first`` on have their latents turned over as an answer."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def batch(self, rows, generator):
        batch = super().batch(rows, generator)
        return replace(batch, answer=-batch.latents, answered=rows >= self.first)


def test_clips_without_an_answer_are_led_where_the_teacher_leads(tmp_path):
    config = replace(TINY, total_steps=3, ode_updates=3, guidance=1.0)
    _, plain = train(config, tmp_path / "plain")
    _, none_answered = train(config, tmp_path / "none", source=AnsweredSource(8))
    assert [r.losses for r in none_answered] == [r.losses for r in plain]


def test_a_batch_may_hold_clips_with_and_without_an_answer(tmp_path):
    """One step of the teacher is what the student does at first: all of the loss is that of answered clips."""
    config = replace(TINY, batch_size=8, total_steps=1, ode_updates=1, ode_substeps=1)
    source = AnsweredSource(4)
    _, some = train(config, tmp_path / "some", source=source)
    _, every = train(config, tmp_path / "every", source=AnsweredSource(0))
    answered = sum(row >= 4 for row in source.asked[-1])
    assert 0 < answered < 8
    assert 0 < some[0].losses["ode"] < every[0].losses["ode"]


class ChoosingSource(TinySource):
    """Every clip may become another one, which differs from it along one way."""

    def batch(self, rows, generator):
        batch = super().batch(rows, generator)
        way = batch.latents[:, None]
        return replace(batch, choices=way / way.flatten(2).norm(dim=2).view(-1, 1, 1, 1, 1, 1))


def test_errors_along_choices_weigh_more(tmp_path):
    config = replace(TINY, total_steps=1, ode_updates=1, guidance=1.0)
    _, (plain,) = train(config, tmp_path / "plain")
    _, (same,) = train(config, tmp_path / "same", source=ChoosingSource())
    assert same.losses["ode"] == plain.losses["ode"]
    weighted = replace(config, ode_choice_weight=50.0)
    _, (more,) = train(weighted, tmp_path / "more", source=ChoosingSource())
    assert 0 < more.losses["choice"] < plain.losses["ode"]
    assert more.losses["ode"] == pytest.approx(plain.losses["ode"] + 50 * more.losses["choice"], rel=1e-4)


def test_a_student_learns_answers(tmp_path):
    config = replace(TINY, total_steps=30, ode_updates=30, ode_learning_rate=3e-3, rank=8)
    _, reports = train(config, tmp_path, source=AnsweredSource(0))
    losses = [r.losses["ode"] for r in reports]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
