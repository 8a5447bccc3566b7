"""Later windows that are kept though one before them is made again."""

import pytest
import torch
from magic141.model_patches.measures import delta_e, frame_difference, srgb_to_lab
from magic141.model_patches.window.entries import Entry, check_entry
from magic141.model_patches.window.later import FOLLOWED, kept_later, start_difference
from magic141.model_patches.window.tail import from_uint8, read_tail
from magic141.tests.unit.window.test_takes import A, B, C, Killed, KilledAt, folder, wanted
from safetensors.torch import load_file

__all__ = ["folder", "wanted"]  # fixtures
KEEP, STRICT = "\n[keep later] 90", "\n[keep later] 1.5"


def ends(folder) -> torch.Tensor:
    """Return the last frames of window 2."""
    return read_tail(load_file(folder.path / "windows/0001.safetensors")).frames


def test_later_windows_are_kept_within_the_limit_and_found_again(folder, wanted):
    folder.make(A)
    before = ends(folder)
    assert folder.make(B + KEEP) == [1]
    assert folder.frames() == [*wanted[B][:2], *wanted[A][2:]]
    apart = frame_difference(from_uint8(before), from_uint8(ends(folder)))
    assert [card["start_difference"] for card in folder.cards] == [None, None, apart, None]
    assert [card["kept"] for card in folder.cards] == [True, False, True, True]
    assert kept_later(folder.entries) == [
        "Window 3: kept though the window before was made again, as [keep later] says; the start differs by up to "
        f"{apart:.2f} delta E from the frames it was made from."
    ]
    assert folder.make(B + KEEP) == []
    assert folder.frames() == [*wanted[B][:2], *wanted[A][2:]]


def test_beyond_the_limit_or_without_one_they_are_made_again(folder, wanted):
    folder.make(A)
    assert folder.make(B + STRICT) == [1, 2, 3]
    assert folder.frames() == wanted[B]
    assert kept_later(folder.entries) == []
    assert folder.make(A) == []
    folder.make(B, stop_at=2)
    folder.make(A)
    assert folder.make(B + KEEP) == [], "the takes that followed are nearer"
    assert folder.frames() == wanted[B]


def test_a_limit_that_is_lowered_or_removed_makes_what_was_kept_again(folder, wanted):
    folder.make(A)
    folder.make(B + KEEP)
    assert folder.make(B + STRICT) == [2, 3]
    assert folder.frames() == wanted[B]
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]


def test_going_back_from_a_window_whose_followers_were_kept_makes_nothing(folder, wanted):
    folder.make(A)
    folder.make(B + KEEP)
    assert folder.make(A) == []
    assert folder.frames() == wanted[A]
    assert kept_later(folder.entries) == []


def test_a_limit_that_comes_after_the_redo_is_heard(folder, wanted):
    folder.make(A)
    folder.make(B, stop_at=2)
    assert folder.make(B + KEEP) == []
    assert folder.frames() == [*wanted[B][:2], *wanted[A][2:]]


def test_made_again_twice_the_start_is_compared_with_what_the_kept_window_has_started_from(folder, wanted):
    folder.make(A)
    before = ends(folder)
    folder.make(B + KEEP)
    assert folder.make(C + KEEP) == [1]
    assert folder.frames() == [*wanted[C][:2], *wanted[A][2:]]
    apart = frame_difference(from_uint8(before), from_uint8(ends(folder)))
    assert start_difference(folder.entries, 2) == apart
    assert torch.equal(load_file(folder.path / "windows/0001.safetensors")[FOLLOWED], before[-5:])


def test_a_window_between_that_changed_too_is_made_and_the_ones_behind_it_are_kept(folder, wanted):
    folder.make("a\nb\nc\nd")
    last = folder.frames()[3]
    assert folder.make("a\nB\nC\nd" + KEEP) == [1, 2]
    kept = folder.frames()
    assert kept[3] == last
    assert start_difference(folder.entries, 2) is None
    assert start_difference(folder.entries, 3) is not None
    folder.make("a\nb\nc\nd")
    assert folder.make("a\nB\nC\nd" + KEEP) == []
    assert folder.frames() == kept
    assert folder.make("a\nb\nC\nd") == [2, 3], "the other take of window 3 was made after another window 2"


def test_windows_of_older_versions_are_kept_too(folder, wanted):
    folder.make(A)
    folder.change_entries(lambda entry: {name: entry[name] for name in ("index", "key", "files", "facts")})
    assert folder.make(B + KEEP) == [1]
    assert folder.make(B + KEEP) == []
    assert folder.frames() == [*wanted[B][:2], *wanted[A][2:]]


@pytest.mark.parametrize("folder", [False], ids=["apart"], indirect=True)
@pytest.mark.parametrize("then", [A, B + KEEP])
def test_after_a_kill_while_later_windows_are_kept_no_window_is_wrong(folder, wanted, monkeypatch, then):
    kept = [[*wanted[B][:number], *wanted[A][number:]] for number in (2, 3)]
    right = {A: [wanted[A]], B + KEEP: kept}
    for number in range(100):
        folder.make(C, stop_at=2)
        folder.make(A)
        with monkeypatch.context() as patch:
            KilledAt(patch, number)
            try:
                folder.make(B + KEEP)
                break
            except Killed:
                pass
        folder.make(then)
        assert folder.frames() in right[then], number
    assert number > 5


HASH = "0" * 64


@pytest.mark.parametrize(
    "followed", [{"key": HASH}, {"key": HASH, "tensors": "x"}, {"key": HASH, "tensors": HASH, "more": HASH}]
)
def test_an_entry_that_does_not_name_a_take_is_damage(followed):
    good = {"key": HASH, "tensors": HASH}
    files = {"windows/0000.safetensors": HASH}
    check_entry(Entry(0, HASH, files, {}, followed=good), 0)
    with pytest.raises(ValueError, match=r"take|hash"):
        check_entry(Entry(0, HASH, files, {}, followed=followed), 0)


def test_pictures_differ_by_the_mean_color_difference_of_their_pixels():
    one = torch.rand(2, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    other = one.flip(1)
    pixels = delta_e(srgb_to_lab(one), srgb_to_lab(other))
    assert frame_difference(one, other) == pytest.approx(float(pixels.mean()))
    assert frame_difference(one, one) == 0
