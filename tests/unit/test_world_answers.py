"""What windows of the shapes world should come to, as far as the world knows it."""

from dataclasses import replace

import pytest
import torch
from magic141.embedded import world
from magic141.embedded.train import answers
from magic141.embedded.train.answers import CHOSEN_AT, AnsweredSource, FirstWindows, made_first_windows
from magic141.embedded.train.handovers import KNOWN
from magic141.embedded.train.judge import Sampling
from magic141.embedded.train.source import OPEN, WorldSource

from .test_world_handovers import PixelVae, hand_overs, tiny_weights
from .test_world_source import COUNT, SCENES, dataset

NUM = 7


def first_windows() -> FirstWindows:
    generator = torch.Generator().manual_seed(6)
    noise, latents = torch.randn(2, NUM, 16, 4, 8, 8, generator=generator).half()
    return FirstWindows(torch.arange(NUM) % COUNT, noise, latents)


class Undrifted:
    """Known latents as they are."""

    def put_on(self, _source, _windows, batch, _generator):
        return batch


@pytest.fixture(scope="module")
def batch():
    """Return a large batch with its answers, and the windows that it was drawn as."""
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0), known_shares=(0.5, 0.4, 0.1))
    answered = AnsweredSource(source, Undrifted(), hand_overs(), first_windows())
    rows = torch.arange(COUNT).repeat(20)
    assert len(answered) == COUNT
    drawn = source.windows(rows, torch.Generator().manual_seed(4))
    return answered.batch(rows, torch.Generator().manual_seed(4)), drawn


def number_of(wanted: torch.Tensor, among: torch.Tensor) -> int:
    return (among.float() == wanted).flatten(1).all(1).nonzero().item()


def test_only_open_first_windows_have_no_answer_at_high_sigmas(batch):
    told, drawn = batch
    assert (told.answered_up_to[~drawn.is_open] == 1).all()
    assert sorted(set(told.answered_up_to[drawn.is_open].tolist())) == pytest.approx([0, CHOSEN_AT])


def test_first_windows_come_with_the_noise_they_were_made_from(batch):
    told, _ = batch
    made, begun = first_windows(), (told.answered_up_to > 0) & (told.answered_up_to < 1)
    assert begun.any()
    for answer, noise in zip(told.answer[begun], told.noise[begun], strict=True):
        assert torch.equal(noise, made.noise[number_of(answer, made.latents)].float())
    assert torch.equal(
        told.latents[begun], dataset().latents[first_rows(told, begun, made)][:, :, :4].float()
    )


def first_rows(told, begun, made) -> torch.Tensor:
    return torch.stack([made.rows[number_of(answer, made.latents)] for answer in told.answer[begun]])


def test_hand_overs_are_told_as_they_were_made_and_answered_as_they_should_be(batch):
    told, drawn = batch
    given, changed = hand_overs(), (told.latents != told.answer).flatten(1).any(1) & ~drawn.is_open
    assert changed.any()
    assert (drawn.num_known[changed] == KNOWN).all()
    for clip, answer in zip(told.latents[changed], told.answer[changed], strict=True):
        assert torch.equal(clip[:, :KNOWN], given.made[number_of(answer, given.latents)].float())
        assert torch.equal(clip[:, KNOWN:], answer[:, KNOWN:])


def test_first_windows_are_made_once_and_mended(monkeypatch, tmp_path):
    encoders = type("Encoders", (), {"load_vae": staticmethod(PixelVae)})
    monkeypatch.setattr(answers, "Encoders", encoders)
    monkeypatch.setattr(answers, "MADE_AT_ONCE", 4)
    drawn = []
    monkeypatch.setattr(world, "render_clip", lambda *a: drawn.append(a[0]) or render(*a))

    def make() -> FirstWindows:
        return made_first_windows(tiny_weights(), dataset(), SCENES, Sampling(1), tmp_path / "made", count=6)

    made = make()
    assert 0 < len(made) <= 6
    assert made.noise.shape == made.latents.shape == (len(made), 16, 4, 8, 8)
    mended = torch.cat([scenes.motion for scenes in drawn])
    assert dataset().allowed[made.rows, OPEN].gather(1, mended[:, None]).all()
    expected = PixelVae().encode(render(replace(drawn[0]), 13)).half()
    assert torch.equal(made.latents[: len(expected)], expected)
    monkeypatch.setattr(answers, "Encoders", None)
    assert torch.equal(make().noise, made.noise)


render = world.render_clip
