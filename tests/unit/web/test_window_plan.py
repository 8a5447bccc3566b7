"""The cards on the node plan the same windows as the run; needs Node.js, else the browser tests cover it."""

import json
from pathlib import Path

import pytest
from magic141.model_patches.window.clips import ClipSizes, count_frames, plan_clips
from magic141.model_patches.window.plan import num_frames_of, plan_run
from magic141.model_patches.window.settings import SECONDS, WINDOWS, WindowSettings
from magic141.tests.support.node_js import evaluate, needs_node

SCRIPT = Path(__file__).resolve().parents[3] / "web" / "window_plan.js"
PROMPTS = (
    "one",
    "one\ntwo\n\nthree\n[window 2] seed 7\n[keep later] 1",
    "[0:00-0:10] a\n[10-end] b",
    "gaps\n[0:02 - 4.5s] x",
    "ends\n[window 3] end castle.png",
    "",
)
CASES = [
    {"length": length, "inWindows": in_windows, "windowLength": window, "overlap": overlap, "fps": fps}
    | {"prompts": prompts, "continues": continues, "hasEndImage": has_end_image}
    for length, in_windows in ((60.0, False), (13.7, False), (0.1, False), (4.0, True))
    for window, overlap, fps in ((121, 1, 24.0), (13, 2, 24.0), (129, 5, 23.976))
    for prompts in PROMPTS
    for continues in (False, True)
    for has_end_image in (False, True)
]


def in_python(case):
    given = {name: case[name] for name in ("prompts", "length", "overlap", "fps")}
    length_in = WINDOWS if case["inWindows"] else SECONDS
    settings = WindowSettings(**given, length_in=length_in, window_length=case["windowLength"])
    try:
        windows = plan_run(settings, continues=case["continues"], has_end_image=case["hasEndImage"])
    except ValueError:  # the run refuses these prompts; the cards show what they can
        return None
    return [
        {
            "start": window.start_frame / case["fps"],
            "end": (window.start_frame + window.num_new_frames) / case["fps"],
            "known": 0
            if not (window.index or case["continues"])
            else num_frames_of(case["overlap"]) / case["fps"],
            "prompt": window.prompt,
        }
        for window in windows
    ]


CLIP_CASES = [
    {"length": length, "inWindows": in_windows, "windowLength": window, "knownFrames": known, "dropNew": drop}
    | {"blend": blend, "fps": fps, "prompts": prompts, "continues": continues}
    for length, in_windows in ((60.0, False), (13.7, False), (0.1, False), (4.0, True))
    for window, known, drop, blend, fps in ((81, 1, 0, 0, 16.0), (13, 5, 2, 0, 24.0), (33, 9, 0, 4, 23.976))
    for prompts in PROMPTS
    for continues in (False, True)
]


def clips_in_python(case):
    sizes = ClipSizes(case["windowLength"], case["knownFrames"], case["dropNew"], case["blend"])
    fps, continues = case["fps"], case["continues"]
    new = count_frames(sizes, case["length"], in_windows=case["inWindows"], fps=fps, continues=continues)
    try:
        windows = plan_clips(sizes, new, continues=continues, prompts=case["prompts"], fps=fps, seed=0)
    except ValueError:  # the run refuses these prompts; the cards show what they can
        return None
    return [
        {
            "start": window.start_frame / fps,
            "end": (window.start_frame + window.num_new_frames) / fps,
            "known": window.num_known / fps if window.index or continues else 0,
            "prompt": window.prompt,
        }
        for window in windows
    ]


@needs_node
@pytest.mark.parametrize(
    ("function", "cases", "planned"),
    [("planWindows", CASES, in_python), ("planClips", CLIP_CASES, clips_in_python)],
)
def test_the_cards_plan_what_the_run_does(function, cases, planned):
    found = evaluate(SCRIPT, function, f"{json.dumps(cases)}.map({function})")
    for case, drawn in zip(cases, found, strict=True):
        wanted = planned(case)
        if wanted is None:
            continue
        assert [window["prompt"] for window in drawn] == [window["prompt"] for window in wanted], case
        for name in ("start", "end", "known"):
            got = [window[name] for window in drawn]
            assert got == pytest.approx([window[name] for window in wanted]), case
