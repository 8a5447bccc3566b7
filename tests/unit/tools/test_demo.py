"""Workflows of long videos are cut short for a quick look, with the prompts that are left of them."""

import pytest
from magic141.tools.demo import cut_long_videos

TIMED = "[0:00-0:15] it moves up\n[0:15-0:30] it moves right\n[0:30-end] it stops"


@pytest.mark.parametrize(
    ("prompts", "longest_s", "kept"),
    [
        (TIMED, 60, TIMED),
        (TIMED, 15, "[0:00-0:15] it moves up"),
        (TIMED, 20, "[0:00-0:15] it moves up\n[0:15-0:30] it moves right"),
        ("it moves up\nit stops", 1, "it moves up\nit stops"),
        (["7", 0], 1, ["7", 0]),
    ],
)
def test_prompts_behind_the_end_are_left_out(prompts, longest_s, kept):
    prompt = {"1": {"class_type": "Magic141WindowStart", "inputs": {"prompts": prompts, "length": 30.0}}}
    cut_long_videos(prompt, longest_s)
    assert prompt["1"]["inputs"] == {"prompts": kept, "length": min(longest_s, 30.0)}


def test_other_nodes_stay_as_they_are():
    prompt = {"1": {"class_type": "Other", "inputs": {"length": 30.0}}}
    cut_long_videos(prompt, 1.0)
    assert prompt["1"]["inputs"]["length"] == 30.0
