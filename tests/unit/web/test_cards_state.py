"""What is true of every card, from the story, the finished windows and the run that goes on."""

import json
from pathlib import Path

import pytest
from magic141.model_patches.window.directions import read_directions
from magic141.model_patches.window.prompts import DIRECTION, TimedPrompt, parse_prompts
from magic141.tests.support.node_js import evaluate, needs_node

CARDS = Path(__file__).resolve().parents[3] / "web" / "cards"
LINES = ["a fox", "[0:00-0:10] a", "[5 to 10 s]b", "[5-end]", "[2D film] a", "[0:05–1:10.5] x", "[ 5 - 7 ] x"]
LINES += ["[window 3] seed 77", "[Window3]end a b.png", "[ WINDOW  12 ]  Seed  18446744073709551615"]
LINES += [
    "[keep later] 2.0",
    "[ Keep  Later ]3",
    "[keeplater] x",
    "[window] x",
    "[window x] seed 5",
    "[window 3 seed 5",
]


def made(index: int, **more: object) -> dict:
    file = {"filename": f"{index}.mp4", "subfolder": "r", "type": "output"}
    return {"index": index, "prompt": "p", "seed": f"{index}", "end": "", "settings": 1, "file": file} | more


def states(results: list[dict], run: dict | None = None, gone: tuple = (), **changed: object) -> list[str]:
    """Return the states of three cards; ``changed`` is what the second one says instead."""
    cards = [{"index": i, "prompt": "p", "seed": str(i), "end_picture": ""} for i in range(3)]
    cards[1] |= changed
    expression = f"""statesOf({json.dumps(cards)}, new Map({json.dumps(results)}.map((r) => [r.index, r])),
        {{ run: {json.dumps(run)}, settings: 1, gone: new Set({json.dumps(gone)}) }}).map(({{ state }}) => state)"""
    return evaluate(CARDS / "state.js", "statesOf", expression)


@needs_node
def test_the_page_reads_a_line_as_the_run_does():
    found = evaluate(CARDS / "box.js", "parseLine", f"{json.dumps(LINES)}.map(parseLine)")
    for line, read in zip(LINES, found, strict=True):
        kind = "window" if DIRECTION.match(line) else "plain"
        if kind == "plain" and isinstance(parse_prompts(line)[0], TimedPrompt):
            kind = "timed"
        if kind == "window" and "k" in line.lower():
            assert (read["kind"], float(read["value"])) == ("keep", read_directions(line).keep_later)
            continue
        assert read["kind"] == kind, line
        if kind == "window":
            told = read_directions(line)
            values = told.seeds or told.ends
            assert {read["number"] - 1: read["value"]} == {
                index: str(value) for index, value in values.items()
            }


ALL = [made(0), made(1), made(2)]
TAKE = {"prompt": "other", "seed": "1", "end": ""}


@needs_node
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"results": []}, ["waiting"] * 3),
        ({"results": ALL}, ["done"] * 3),
        ({"results": ALL, "prompt": "other"}, ["done", "stale", "stale"]),
        ({"results": ALL, "seed": "9"}, ["done", "stale", "stale"]),
        ({"results": ALL, "end_picture": "x.png"}, ["done", "stale", "stale"]),
        ({"results": [made(0), made(1, settings=2), made(2)]}, ["done", "stale", "stale"]),
        ({"results": [made(0), made(1, takes=[TAKE])], "prompt": "other"}, ["done", "chosen", "waiting"]),
        ({"results": [made(0), made(1, prompt="b")], "prompt": "a {b|c}"}, ["done", "done", "waiting"]),
        ({"results": ALL[:1], "run": {"index": 1, "share": 0.5, "over": ""}}, ["done", "running", "waiting"]),
        ({"results": ALL, "run": {"index": 1, "share": 0.5, "over": ""}}, ["done", "running", "stale"]),
        ({"results": ALL[:1], "run": {"index": 1, "share": 0, "over": "failed"}}, ["done", "failed", "waiting"]),
        ({"results": ALL[:1], "run": {"index": 1, "share": 0, "over": "stopped"}}, ["done", "stopped", "waiting"]),
        ({"results": ALL, "gone": ("output/r/1.mp4",)}, ["done", "gone", "done"]),
    ],
)  # fmt: skip
def test_the_states_of_three_cards(given, wanted):
    assert states(**given) == wanted


@needs_node
def test_time_and_disk_are_estimated_from_the_windows_that_are_finished():
    cards = [
        {"state": "done", "share": 0},
        {"state": "running", "share": 0.5},
        {"state": "waiting", "share": 0},
    ]
    results = [made(0, seconds=10, bytes=100, measures={"color_shift": 0.5}), made(1, seconds=20, bytes=300)]
    expression = f"figuresOf({json.dumps(cards)}, new Map({json.dumps(results)}.map((r) => [r.index, r])))"
    found = evaluate(CARDS / "state.js", "figuresOf", expression)
    assert found == {"secondsLeft": 22.5, "bytes": 600, "drift": [0.5]}
