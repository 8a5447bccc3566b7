"""The lab's own lessons: answers that the data know, choices that weigh more, and which calls learn how often."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from magic141.lab.models.lessons import AnsweredBatch, Lessons, choice_loss, straight_way
from magic141.model_patches.training.losses import ode_step_loss
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY
from magic141.tests.support.tiny_training import train as train_plainly


def train(config, folder, lessons=None, **options):
    """Train with lessons."""
    lessons = lessons or Lessons()
    lessons.check(config)
    return train_plainly(config, folder, phases=lessons.phases, identity=lessons.changed_values(), **options)


def latents(*clips: list[float]) -> torch.Tensor:
    """Return (B, 1, 1, 1, n) latents of listed values."""
    return torch.tensor(clips)[:, None, None, None]


class AnsweredSource(TinySource):
    """Rows from ``first`` on have their latents turned over as an answer."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def batch(self, rows, generator):
        batch = super().batch(rows, generator)
        return AnsweredBatch(**vars(batch), answer=-batch.latents, answered=rows >= self.first)


def test_clips_without_an_answer_are_led_where_the_teacher_leads(tmp_path):
    config = replace(TINY, total_steps=3, ode_updates=3, guidance_w=1.0)
    _, plain = train_plainly(config, tmp_path / "plain")
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
        choices = way / way.flatten(2).norm(dim=2).view(-1, 1, 1, 1, 1, 1)
        none = torch.zeros(len(rows), dtype=torch.bool)
        return AnsweredBatch(**vars(batch), answer=batch.latents, answered=none, choices=choices)


def test_errors_along_choices_weigh_more(tmp_path):
    config = replace(TINY, total_steps=1, ode_updates=1, guidance_w=1.0)
    _, (plain,) = train_plainly(config, tmp_path / "plain")
    _, (same,) = train(config, tmp_path / "same", source=ChoosingSource())
    assert same.losses["ode"] == plain.losses["ode"]
    _, (more,) = train(config, tmp_path / "more", Lessons(ode_choice_weight=50.0), source=ChoosingSource())
    assert 0 < more.losses["choice"] < plain.losses["ode"]
    assert more.losses["ode"] == pytest.approx(plain.losses["ode"] + 50 * more.losses["choice"], rel=1e-4)


def test_a_student_learns_answers(tmp_path):
    config = replace(TINY, total_steps=30, ode_updates=30, ode_learning_rate=3e-3, rank=8)
    _, reports = train(config, tmp_path, source=AnsweredSource(0))
    losses = [r.losses["ode"] for r in reports]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize("shares", [(1.0, 3.0), (1, 3)])
def test_calls_learn_the_ode_as_often_as_their_shares(shares):
    networks = SimpleNamespace(student=None, fake=SimpleNamespace())
    generator = torch.Generator().manual_seed(0)
    config, lessons = replace(TINY, ode_updates=1), Lessons(ode_call_shares=shares)
    (ode,), dmd2_phases = (lessons.phases(config, networks, step) for step in (0, 1))
    for phase, second_call in ((ode, 0.75), (dmd2_phases[-1], 0.5)):
        drawn = [phase.draw_last_call(2, generator) for _ in range(400)]
        assert sum(drawn) / len(drawn) == pytest.approx(second_call, abs=0.07)
    for phase in Lessons(dmd_call_shares=(0.0, 1.0)).phases(config, networks, 1):
        assert {phase.draw_last_call(2, generator) for _ in range(40)} == {1}
    (only_first,) = Lessons(ode_call_shares=(1.0, 0.0)).phases(config, networks, 0)
    assert {only_first.draw_last_call(2, generator) for _ in range(40)} == {0}


def test_a_run_with_shares_of_calls_goes_on_and_no_other(tmp_path):
    config, lessons = replace(TINY, total_steps=3, ode_updates=3), Lessons(ode_call_shares=(1.0, 3.0))
    train(config, tmp_path, lessons, stop_after=1)
    with pytest.raises(ValueError, match=r"ode_call_shares was \[1\.0, 3\.0\] and is now \[1\.0, 2\.0\]"):
        train(config, tmp_path, Lessons(ode_call_shares=(1.0, 2.0)))
    _, reports = train(config, tmp_path, lessons)
    assert [report.step for report in reports] == [2, 3]


def test_shares_of_calls_that_are_not_there_are_refused():
    for name in ("ode_call_shares", "dmd_call_shares"):
        for shares in ((1.0,), (1.0, -1.0), (0.0, 0.0)):
            with pytest.raises(ValueError, match=f"{name} is .* wanted 2 numbers, one a step of the student"):
                Lessons(**{name: shares}).check(TINY)
    for unused in (Lessons(ode_call_shares=(1.0, 2.0)), Lessons(ode_choice_weight=30.0)):
        with pytest.raises(ValueError, match="need ode_updates, which is 0"):
            unused.check(TINY)
    for settings in ({"stage": "flow"}, {"ode_updates": TINY.total_steps}):
        with pytest.raises(
            ValueError, match=r"dmd_call_shares is \[1\.0, 2\.0\], but none of the updates is one of DMD2"
        ):
            Lessons(dmd_call_shares=(1.0, 2.0)).check(replace(TINY, **settings))


def test_a_weight_of_choices_that_the_data_do_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this data does not know which clips could follow"):
        train(replace(TINY, ode_updates=1), tmp_path, Lessons(ode_choice_weight=30.0))


def test_choice_loss_is_the_part_of_the_error_along_the_choices():
    velocity, start, end = latents([5.0, 0.0]), latents([3.0, 0.0]), latents([1.0, 1.0])  # errors 1 and 2
    span, ways = torch.tensor(0.5), torch.tensor([[0.6, 0.8], [0.0, 0.0]])
    choices = ways.view(1, 2, *velocity.shape[1:])
    loss = choice_loss(velocity, start, end, span, choices)
    assert loss.item() == pytest.approx((0.6 * 1 + 0.8 * 2) ** 2 / 2)
    every_way = torch.eye(2).view(1, 2, *velocity.shape[1:])
    everything = choice_loss(velocity, start, end, span, every_way)
    assert everything.item() == pytest.approx(ode_step_loss(velocity, start, end, span).item())


def test_the_straight_way_keeps_the_noise():
    # z at 0.5 of clean 2 and noise 4 is 3; at 0.25 it is 2.5
    state = straight_way(latents([3.0, 1.0]), latents([2.0, 1.0]), torch.tensor(0.5), torch.tensor(0.25))
    assert state.flatten().tolist() == [2.5, 1.0]
