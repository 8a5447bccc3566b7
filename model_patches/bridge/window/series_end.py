"""Notice that a series of windows ended early, by an error or a cancel: the host has no call for it.

The running executor is looked up on the stack; its handler of errors is replaced by one that says more and then calls
the host's own.
"""

import logging
import sys
from collections.abc import Callable
from types import FrameType

from .graph_walk import START
from .series import running_executor

OnEnd = Callable[[bool], str]
"""Called when a series ends early, with True after a cancel; returns a sentence for the error message."""


class _EndHandler:
    """Takes the place of an executor's ``handle_execution_error``."""

    def __init__(self, handle: Callable) -> None:
        self.handle = handle
        self.on_end: dict[int, OnEnd] = {}

    def __call__(self, prompt_id, prompt, current_outputs, executed, error, ex) -> None:
        try:
            error = self.completed(prompt, error, sys._getframe(1))
        except Exception:  # raised here, it would end the host's thread and with it every later prompt
            logging.exception("Magic141: the finished windows could not be joined or reported")
        self.handle(prompt_id, prompt, current_outputs, executed, error, ex)

    def completed(self, prompt: dict, error: dict, frame: FrameType) -> dict:
        """Return the host's error facts with the artist's own node and, unless it is a cancel, what is kept."""
        is_cancel = "exception_message" not in error
        kept = " ".join(on_end(is_cancel) for on_end in self.on_end.values())
        self.on_end.clear()
        if prompt[error["node_id"]]["class_type"] == START:
            error = error | {"node_id": shown_node(frame, error["node_id"], prompt)}
        if kept and not is_cancel:
            error = error | {"exception_message": f"{error['exception_message'].rstrip()}\n{kept}"}
        return error


def shown_node(frame: FrameType, root_id: str, prompt: dict) -> str:
    """Return the artist's node whose copy failed, where the host names the root of the expansion, Window Start."""
    graph, failed = frame.f_locals.get("dynamic_prompt"), frame.f_locals.get("node_id")
    shown = root_id if graph is None or failed is None else graph.get_display_node_id(failed)
    return shown if shown in prompt else root_id


def watch_end(series: object, on_end: OnEnd) -> None:
    """Call ``on_end`` if the running prompt ends before ``forget_end``, and name the node at fault."""
    try:
        executor = running_executor()
        if not isinstance(executor.handle_execution_error, _EndHandler):
            executor.handle_execution_error = _EndHandler(executor.handle_execution_error)
    except (AttributeError, LookupError) as error:
        logging.warning(
            "Magic141: on this ComfyUI no video is joined after a cancel or an error (%s).", error
        )
        return
    executor.handle_execution_error.on_end[id(series)] = on_end


def forget_end(series: object) -> None:
    """Stop watching a series, which is finished."""
    handler = getattr(running_executor(), "handle_execution_error", None)
    if isinstance(handler, _EndHandler):
        handler.on_end.pop(id(series), None)
