"""The line of text on a running node: each stage, counts not too often, and the time in the end."""

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import comfy.model_management
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import CurrentNodeContext
from magic141.model_patches.bridge import progress

get_progress_state()  # a server has it before any node runs


@pytest.fixture
def said(monkeypatch) -> list[tuple[str, str | None]]:
    """What was sent to nodes."""
    sent: list[tuple[str, str | None]] = []
    monkeypatch.setattr(progress, "send_text", lambda text, node_id: sent.append((text, node_id)))
    return sent


def test_stages_go_to_the_running_node_and_end_with_the_time(said):
    with CurrentNodeContext("prompt", "12:7"), progress.stages() as tell:
        tell("reading the file")
    assert said == [("reading the file", "12:7"), ("done in 0 s", "12:7")]


def test_outside_a_run_nobody_is_told(said):
    progress.show_stage("something")
    assert said == [("something", None)]


def test_a_failed_stage_is_not_said_to_be_done(said):
    def fail() -> None:
        with progress.stages() as tell:
            tell("reading")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert [text for text, _ in said] == ["reading"]


def test_counts_are_told_at_the_start_and_the_end_but_not_each(said):
    show = progress.host_progress("quantizing the DiT")
    for done in range(1, 201):
        show(done, 200)
    assert said[0][0] == "quantizing the DiT: 0 %"
    assert said[-1][0] == "quantizing the DiT: 100 %"
    assert len(said) < 50


def test_a_cancelled_run_stops_at_the_next_count(said):
    show = progress.host_progress("embedding pictures")
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        show(1, 2)
    assert said == []


def test_without_a_stage_there_is_a_bar_alone(said):
    progress.host_progress()(1, 1)
    assert said == []
