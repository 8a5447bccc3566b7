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

Told = Callable[[bool], str]
"""Called when a series ends early, with whether by a cancel; returns what to tell of it."""


class _EndHandler:
    """Stands for an executor's ``handle_execution_error``."""

    def __init__(self, handle: Callable) -> None:
        self.handle = handle
        self.watching: dict[int, Told] = {}

    def __call__(self, prompt_id, prompt, current_outputs, executed, error, ex) -> None:
        try:
            error = self.more_told(prompt, error, sys._getframe(1))
        except Exception:  # raised here, it would end the host's thread and with it every later prompt
            logging.exception("Magic141: what was finished could not be told")
        self.handle(prompt_id, prompt, current_outputs, executed, error, ex)

    def more_told(self, prompt: dict, error: dict, frame: FrameType) -> dict:
        """Return the host's facts of an error with the artist's node and what is kept; of a cancel it keeps less."""
        told = " ".join(watch("exception_message" not in error) for watch in self.watching.values())
        self.watching.clear()
        if prompt[error["node_id"]]["class_type"] == START:
            error = error | {"node_id": shown_node(frame, error["node_id"], prompt)}
        if told and "exception_message" in error:
            error = error | {"exception_message": f"{error['exception_message'].rstrip()}\n{told}"}
        return error


def shown_node(frame: FrameType, root_id: str, prompt: dict) -> str:
    """Return the artist's node whose copy failed; the host names the root of an expansion, which is Window Start."""
    graph, failed = frame.f_locals.get("dynamic_prompt"), frame.f_locals.get("node_id")
    shown = root_id if graph is None or failed is None else graph.get_display_node_id(failed)
    return shown if shown in prompt else root_id


def watch_end(series: object, told: Told) -> None:
    """Call ``told`` if the running prompt ends before ``forget_end``, and name the node at fault."""
    try:
        executor = running_executor()
        if not isinstance(executor.handle_execution_error, _EndHandler):
            executor.handle_execution_error = _EndHandler(executor.handle_execution_error)
    except (AttributeError, LookupError) as error:
        logging.warning("Magic141: after a cancel no unfinished video is joined on this ComfyUI (%s).", error)
        return
    executor.handle_execution_error.watching[id(series)] = told


def forget_end(series: object) -> None:
    """Watch a series no longer: it is finished."""
    handler = getattr(running_executor(), "handle_execution_error", None)
    if isinstance(handler, _EndHandler):
        handler.watching.pop(id(series), None)
