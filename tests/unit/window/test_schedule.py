"""The schedule's lines give every window its value."""

import pytest
from magic141.model_patches.window.schedule import number_of, read_schedule, value_in_window


@pytest.mark.parametrize(
    ("index", "value"),
    [(0, "0.8"), (2, "0.8"), (3, "0"), (4, "none"), (5, "a: b.safetensors"), (900, "a: b.safetensors")],
)
def test_every_window_takes_the_line_that_names_it(index, value):
    assert value_in_window("1-3: 0.8\n\n4: 0\n6-end: a: b.safetensors", index, "none") == value


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("one: 2", "Line 1 of the schedule cannot be read"),
        ("1: 2\n0-3: 1", "Line 2 .* windows count from 1"),
        ("5-3: 1", "not before the first"),
        ("1-3: 1\n3: 2", "Two lines .* window 3"),
        ("1-: 1\n9: 2", "Two lines .* window 9"),
    ],
)
def test_lines_that_say_nothing_clear_are_refused(schedule, message):
    with pytest.raises(ValueError, match=message):
        read_schedule(schedule)


def test_a_value_that_is_no_number_counts_as_none():
    assert [number_of(text) for text in ("0.8", "-2", "euler", "nan", "inf")] == [0.8, -2.0, 0.0, 0.0, 0.0]
