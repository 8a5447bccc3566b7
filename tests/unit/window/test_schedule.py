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


def test_a_schedule_is_read_in_order_of_its_windows():
    assert read_schedule("  7-end :x \n\n 1 : a:b\n2 - 3:\n") == [
        (1, 1, "a:b"),
        (2, 3, ""),
        (7, float("inf"), "x"),
    ]
    assert read_schedule("1: a\n2: b") == [(1, 1, "a"), (2, 2, "b")]
    assert read_schedule("1-1: a") == [(1, 1, "a")]
    assert read_schedule("999999999: a") == [(999999999, 999999999, "a")]
    assert read_schedule("2-: a") == [(2, float("inf"), "a")]
    assert read_schedule("") == []


def test_a_window_before_the_first_line_has_the_default():
    assert [value_in_window("2: b", index, "none") for index in range(3)] == ["none", "b", "none"]


def test_as_many_lines_as_are_allowed_are_read():
    lines = [f"{number}: {number}" for number in range(1, 10_001)]
    assert len(read_schedule("\n".join(lines))) == 10_000
    with pytest.raises(ValueError, match="has 10001 lines; 10000 are the most"):
        read_schedule("\n".join([*lines, "10001: a"]))


def test_a_line_that_cannot_be_read_is_shown_by_its_number_and_its_beginning():
    with pytest.raises(ValueError, match=f"Line 3 of the schedule cannot be read: '{'x' * 40}'"):
        read_schedule("1: a\n\n" + "x" * 50)
