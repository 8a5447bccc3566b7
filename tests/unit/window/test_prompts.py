"""The prompts box: a line a window, time ranges, and what is only text in brackets."""

import re

import pytest
from magic141.model_patches.window.prompts import (
    MAX_CHARACTERS,
    TimedPrompt,
    assign_prompts,
    check_text,
    parse_prompts,
)


def assigned(prompts, spans_s):
    return assign_prompts(parse_prompts(prompts), spans_s)


def spans(count, seconds=1.0):
    return [(i * seconds, (i + 1) * seconds) for i in range(count)]


def test_prompts_one_a_line_and_the_last_goes_on():
    assert assigned("a\n\n b \n", spans(4)) == ["a", "b", "b", "b"]
    assert assigned("", spans(2)) == ["", ""]


def test_prompts_with_ranges():
    text = "[0:00-0:02] a\n[3s to end] c"
    assert assigned(text, spans(5)) == ["a", "a", "a", "c", "c"]
    assert assigned("rest\n[2-3] x", spans(4)) == ["rest", "rest", "x", "rest"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("a\nb\nc", "3 prompt lines for 2 windows"),
        ("[5-9] a", "starts at 5 s but the video ends at 2.00 s"),
        ("[0-2] a\n[1-3] b", "overlap"),
        ("[2-1] a", "ends at 1 but starts at 2"),
        ("[0-x] a", "cannot be read"),
        ("a\nb\n[0-1] c", "2 prompt lines have no time range"),
        (
            "[0-1] a\n[1-1.4] b\n[1.4-2] c",
            "No window takes the prompt from 1 s to 1.4 s.* middle is at 1.50 s",
        ),
    ],
)
def test_bad_prompts_are_said(prompts, message):
    with pytest.raises(ValueError, match=message):
        assigned(prompts, spans(2))


def test_a_bracketed_word_is_prompt_text():
    assert assigned("[style: film] a", spans(1)) == ["[style: film] a"]


@pytest.mark.parametrize(
    "words",
    [
        "2D animation",
        "16:9",
        "9:16",
        "35mm film",
        "3-point lighting",
        "8-bit",
        "1980s",
        "2-3 people",
        "10:30 am",
        "4K",
    ],
)
def test_words_that_begin_with_a_number_are_prompt_text(words):
    line = f"[{words}] a cat"
    assert parse_prompts(line) == [line]


@pytest.mark.parametrize("words", ["0-x", "0:05", "5 - 1O", "0 to 5 sec", "5--9", "5 - 9 -", "1:00 — 2:00"])
def test_a_mistyped_range_is_said(words):
    with pytest.raises(ValueError, match="Prompt line 1 starts with a time range that cannot be read"):
        parse_prompts(f"[{words}] a cat")


@pytest.mark.parametrize(
    ("words", "start_s", "end_s"),
    [
        ("0:05-0:10", 5, 10),
        (" 5 - 10 ", 5, 10),
        ("5s to 10s", 5, 10),
        ("5 –", 5, float("inf")),
        ("1:15.5-end", 75.5, float("inf")),
    ],
)
def test_ranges_are_read(words, start_s, end_s):
    assert parse_prompts(f"[{words}] a cat") == [TimedPrompt("a cat", start_s, end_s)]


@pytest.mark.parametrize(
    "line",
    [
        "[" + " " * 99_000,
        "[1" + " " * 99_000,
        "[1-" + " " * 49_000 + "2" + " " * 49_000 + "]",
        "[" * 99_000,
        "[" + "1" * 99_000 + "-",
        "[1:" * 33_000,
        "\n".join(f"[{i}-{i + 1}] a" for i in range(5000)),
    ],
)
def test_a_full_box_takes_no_time(line):
    """With a pattern that tries every way to share the blanks, none of these ends within a day."""
    parse_prompts(line)


def test_many_ranges_over_many_windows_are_assigned():
    text = "\n".join(f"[{i}-{i + 1}] p{i}" for i in range(5000))
    assert assigned(text, spans(5000))[-1] == "p4999"


def test_a_box_that_is_too_full_is_refused():
    with pytest.raises(ValueError, match="prompts holds 100001 characters; it takes 100000"):
        parse_prompts("a" * (MAX_CHARACTERS + 1))


def test_half_a_character_is_refused_with_its_place():
    with pytest.raises(ValueError, match=r"Line 2 of negative_prompt holds half a character \(U\+D83D\)"):
        check_text("a\nb \ud83d c", "negative_prompt")


@pytest.mark.parametrize(
    ("text", "line"), [("\ud83d", 1), ("\n\ud83d", 2), ("\n\ud83d\n", 2), ("a\n\nb\ud83d", 3)]
)
def test_the_line_of_half_a_character_is_counted_from_one(text, line):
    with pytest.raises(ValueError, match=f"Line {line} of prompts holds half a character"):
        check_text(text, "prompts")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(end):
    with pytest.raises(ValueError, match="Prompt line 3 starts with a time range"):
        parse_prompts(end.join(["a", "", "[0-x] b"]))


def test_the_prompt_before_goes_on_where_no_range_is():
    text = "[1-2] a\n[2-3] b\n[4-5] c"
    assert assigned(text, spans(7)) == ["a", "a", "b", "b", "c", "c", "c"]


def test_as_much_text_as_is_allowed_is_taken_and_a_mistyped_range_is_shown_from_its_beginning():
    assert parse_prompts("a" * 100_000) == ["a" * 100_000]
    with pytest.raises(ValueError, match=f"cannot be read: {re.escape(repr('[0-x] ' + 'b' * 34))}"):
        parse_prompts("[0-x] " + "b" * 50)


@pytest.mark.parametrize(("length", "is_range"), [(100, True), (101, False)])
def test_a_range_is_short(length, is_range):
    inside = "5-" + "6".rjust(length - 2, "0")
    (line,) = parse_prompts(f"[{inside}] a cat")
    assert isinstance(line, TimedPrompt) is is_range
    words = "0 - 9".ljust(length - 1) + "-"
    line = f"[{words.replace(' ', '9')}] a cat"
    if is_range:
        with pytest.raises(ValueError, match="cannot be read"):
            parse_prompts(line)
    else:
        assert parse_prompts(line) == [line]


@pytest.mark.parametrize(
    "unit", ["end", "to", "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "ms", "MIN"]
)
def test_units_are_no_words_of_a_prompt(unit):
    with pytest.raises(ValueError, match="starts with a time range that cannot be read"):
        parse_prompts(f"[0-5 {unit} 3] a cat")
    assert parse_prompts(f"[0-5 {unit}x] a cat") == [f"[0-5 {unit}x] a cat"]


@pytest.mark.parametrize(
    ("prompts", "middle"),
    [("[2.7-3.4] a", "3.50"), ("[0.6-0.7] a", "0.50"), ("[7.6-end] a", "7.50"), ("[4.55-4.6] a", "4.50")],
)
def test_a_range_that_no_window_takes_is_told_the_nearest_middle(prompts, middle):
    with pytest.raises(ValueError, match=f"the nearest middle is at {middle} s"):
        assigned(prompts, spans(8))


@pytest.mark.parametrize(("prompts", "taken"), [("[0.5-0.6] a", True), ("[0.4-0.5] a", False)])
def test_a_range_holds_its_start_and_not_its_end(prompts, taken):
    if taken:
        assert assigned(f"rest\n{prompts}", spans(2)) == ["a", "rest"]
        return
    with pytest.raises(ValueError, match="No window takes"):
        assigned(prompts, spans(2))


def test_a_prompt_that_starts_where_the_video_ends_is_refused():
    with pytest.raises(ValueError, match=r"starts at 2 s but the video ends at 2\.00 s"):
        assigned("[2-3] a", spans(2))
    with pytest.raises(ValueError, match=r"There are 2 prompt lines for 1 window\."):
        assigned("a\nb", spans(1))


@pytest.mark.parametrize("inside", ["٣-٥", "٣-x", "٠:٠٥"])
def test_ranges_are_in_plain_digits(inside):
    assert parse_prompts(f"[{inside}] a cat") == [f"[{inside}] a cat"]


def test_a_window_whose_middle_is_the_end_of_a_range_does_not_take_it():
    assert assigned("rest\n[0-1.5] a", spans(2)) == ["a", "rest"]
    assert assigned("[0-1.5] a\n[1.5-2] b", spans(2)) == ["a", "b"]
