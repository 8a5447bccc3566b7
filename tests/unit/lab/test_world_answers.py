"""What windows of the shapes world should come to, where a student does not learn it from its teacher."""

import pytest
import torch
from magic141.lab.models.answers import AnsweredSource
from magic141.lab.models.futures import MOST, Futures
from magic141.lab.models.handovers import KNOWN
from magic141.lab.models.source import WorldSource

from .test_world_handovers import hand_overs
from .test_world_source import COUNT, dataset


class Undrifted:
    """Known latents as they are."""

    def add_to(self, _source, _windows, batch, _generator):
        return batch


@pytest.fixture(scope="module")
def batch():
    """Return a large batch with its answers, and the windows that it was drawn as."""
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0), known_shares=(0.5, 0.4, 0.1))
    answered = AnsweredSource(source, Undrifted(), hand_overs())
    rows = torch.arange(COUNT).repeat(20)
    assert len(answered) == COUNT
    drawn = source.windows(rows, torch.Generator().manual_seed(4))
    return answered.batch(rows, torch.Generator().manual_seed(4)), drawn


def test_first_windows_of_open_captions_have_choices(batch):
    told, drawn = batch
    assert told.choices is None
    latents = torch.randn(COUNT, MOST, 16, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    futures = Futures(latents, torch.ones(COUNT, MOST, dtype=torch.bool), torch.zeros(COUNT, MOST))
    source = WorldSource(dataset(), image=True, family_shares=(0.5, 0.5, 0.0), known_shares=(0.5, 0.4, 0.1))
    choosing = AnsweredSource(source, Undrifted(), hand_overs(), futures=futures)
    choices = choosing.batch(drawn.rows, torch.Generator().manual_seed(4)).choices
    assert torch.equal(choices.flatten(1).any(1), drawn.is_open)
    torch.testing.assert_close(choices[drawn.is_open], futures.choices(drawn.rows[drawn.is_open]))


def number_of(wanted: torch.Tensor, among: torch.Tensor) -> int:
    return (among.float() == wanted).flatten(1).all(1).nonzero().item()


def test_first_windows_are_the_teachers_and_windows_in_mid_motion_have_answers(batch):
    told, drawn = batch
    kept = drawn.num_known != KNOWN  # no hand-over has taken their place
    assert torch.equal(told.answered[kept], drawn.start[kept] > 0)
    assert set(told.answered[kept].tolist()) == {False, True}


def test_hand_overs_are_told_as_they_were_made_and_answered_as_they_should_be(batch):
    told, drawn = batch
    given, changed = hand_overs(), (told.latents != told.answer).flatten(1).any(1)
    assert changed.any()
    assert told.answered[changed].all()
    assert (drawn.num_known[changed] == KNOWN).all()
    for clip, answer in zip(told.latents[changed], told.answer[changed], strict=True):
        assert torch.equal(clip[:, :KNOWN], given.made[number_of(answer, given.latents)].float())
        assert torch.equal(clip[:, KNOWN:], answer[:, KNOWN:])
