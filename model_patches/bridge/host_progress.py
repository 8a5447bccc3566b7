"""Progress bar and Cancel button of the node that is running."""

from collections.abc import Callable

import comfy.model_management
import comfy.utils


def host_progress() -> Callable[[int, int], None]:
    """Return a function of (done, total) that moves the node's bar and raises when the run was cancelled."""
    bars: list[comfy.utils.ProgressBar] = []

    def show(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if not bars:
            bars.append(comfy.utils.ProgressBar(total))
        bars[0].update_absolute(done, total)

    return show
