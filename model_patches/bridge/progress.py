"""What the running node shows of its work: a bar, the Cancel button, and a line of text for every stage.

Older pages keep the last text of a node after the run, so it says how long the work took; newer ones clear it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.utils
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ..store.cancel import set_cancel_check, stop_if_canceled

set_cancel_check(comfy.model_management.throw_exception_if_processing_interrupted)

#: The text of a count is not renewed more often than this.
LEAST_SECONDS = 0.2


def show_stage(text: str) -> None:
    """Show a line of text on the node that is running, if one is."""
    context = get_executing_context()
    # a copy of a node, inside an expansion, is shown on the node it stands for
    shown_on = get_progress_state().dynprompt.get_display_node_id
    send_text(text, None if context is None else shown_on(context.node_id))


def ignore_stage(_text: str) -> None:
    """Show nothing, for callers that show something else meanwhile."""


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a stage; at the end, show the time that all stages took."""
    started = time.monotonic()
    yield show_stage
    show_stage(f"done in {duration_text(time.monotonic() - started)}")


def host_progress(stage: str = "") -> Callable[[int, int], None]:
    """Return a function of (done, total) that moves the node's bar and raises when the run was canceled.

    Args:
        stage: what is counted, shown as text with the share that is done; empty shows the bar alone.

    A total of 0 means that it is not known yet; then nothing is shown.
    """
    bars: list[comfy.utils.ProgressBar] = []
    shown_at = float("-inf")

    def show(done: int, total: int) -> None:
        nonlocal shown_at
        stop_if_canceled()
        if not total:
            return
        if not bars:
            bars.append(comfy.utils.ProgressBar(total))
        bars[0].update_absolute(done, total)
        now = time.monotonic()
        if stage and (done >= total or now - shown_at >= LEAST_SECONDS):
            shown_at = now
            show_stage(f"{stage}: {100 * done // total} %")

    return show


def duration_text(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def send_event(kind: str, data: dict, node_id: str | None) -> None:
    """Send an event of a node to the page that queued the running prompt, if there is one.

    Args:
        node_id: of the node; a copy inside an expansion is replaced by the node on the screen.
    """
    server, context = _server(), get_executing_context()
    if node_id is None or context is None or server is None or server.client_id is None:
        return
    shown = get_progress_state().dynprompt.get_display_node_id(node_id)
    server.send_sync(kind, {"node": shown, "prompt_id": context.prompt_id, **data}, server.client_id)


def send_text(text: str, node_id: str | None) -> None:
    """Show a line of text on a node, where there is a server."""
    server = _server()
    if node_id is not None and server is not None:
        server.send_progress_text(text, node_id)


def send_last_text(text: str, node_id: str | None) -> None:
    """Show a line of text that stays after the run: a node's cards keep it where the page clears texts."""
    send_text(text, node_id)
    server = _server()
    if node_id is not None and server is not None and server.client_id is not None:
        server.send_sync("magic141.unfinished", {"node": node_id, "text": text}, server.client_id)


def _server():
    """Return the host's server; None where none runs."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)
