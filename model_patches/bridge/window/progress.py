"""Show a long run: one bar over all windows, the newest frame as preview, windows done and time left as text."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.utils
import latent_preview
from torch import Tensor

from ...window.store import WindowStore
from ..progress import duration_text, send_last_text, send_text


class WindowProgress:
    """Progress of a run of windows.

    Args:
        model: the MODEL, for its preview method.
        num_windows: all windows of the run.
        num_done: windows that an earlier run has finished.
        steps: model calls a window.
        node_id: the node that shows the text; None shows none.
    """

    def __init__(
        self, model, *, num_windows: int, num_done: int, steps: int, node_id: str | None = None
    ) -> None:
        self.num_windows, self.num_done, self.steps, self.node_id = num_windows, num_done, steps, node_id
        self._bar = comfy.utils.ProgressBar(num_windows * steps, node_id=node_id)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._started, self._made = time.monotonic(), 0
        self._show_text()

    def on_step(self, step: int, denoised: Tensor, _x: Tensor, _total: int) -> None:
        """Show a sampler's step; this is the ``callback`` of ``sample_clip``."""
        preview = None
        if self._previewer is not None:
            newest = denoised[:, :, -1:]
            preview = self._previewer.decode_latent_to_preview_image("JPEG", newest)
        self._bar.update_absolute(self.num_done * self.steps + step + 1, preview=preview)
        self._show_text(f", step {step + 1} of {self.steps}")

    def window_done(self, num_done: int) -> None:
        """Count one more window that was made; ``num_done`` counts all, with later ones that are kept."""
        self._made += 1
        self.num_done = num_done
        self._bar.update_absolute(self.num_done * self.steps)
        self._show_text()

    def seconds_left(self) -> float | None:
        """Estimate from the windows that this run has made; None before the first."""
        if self._made == 0:
            return None
        return (time.monotonic() - self._started) / self._made * (self.num_windows - self.num_done)

    def _show_text(self, step: str = "") -> None:
        send_text(windows_text(self.num_done, self.num_windows, step, self.seconds_left()), self.node_id)


def windows_text(num_done: int, num_windows: int, detail: str, seconds_left: float | None) -> str:
    """Return which window is being made, a detail of it, and about how long the rest will take."""
    if num_done >= num_windows:
        return f"{num_windows} windows are done"
    left = "" if seconds_left is None else f", about {duration_text(seconds_left)} left"
    return f"window {num_done + 1} of {num_windows}{detail}{left}"


def unfinished_text(num_done: int, num_windows: int, path: Path | None) -> str:
    """Say of a run that ended early where its finished windows are, if it has any."""
    kept = "Nothing was finished before." if path is None else f"Windows kept: {num_done}, in {path}"
    return f"Window {num_done + 1} of {num_windows} was not finished. {kept}"


@contextmanager
def report_unfinished(store: WindowStore, num_windows: int, node_id: str | None) -> Iterator[None]:
    """Show on a node where the finished windows are, if the run ends early and ``store`` has joined them."""
    try:
        yield
    except BaseException:
        if store.unfinished is not None:
            send_last_text(unfinished_text(len(store.entries), num_windows, store.unfinished), node_id)
        raise
