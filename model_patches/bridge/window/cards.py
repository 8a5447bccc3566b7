"""Tell the page which windows of a running prompt are finished."""

from pathlib import Path

import folder_paths

from ...window.cards import Place, window_cards
from ...window.run import WindowRun
from ..progress import send_event

EVENT = "magic141.windows"


class WindowCards:
    """The cards of a run's finished windows; each is sent once.

    Args:
        num_before: frames of the video that is continued.
    """

    def __init__(self, run: WindowRun, *, num_before: int) -> None:
        self._run, self._num_sent = run, 0
        output = Path(folder_paths.get_output_directory())
        subfolder = run.store.folder.relative_to(output).as_posix()
        self._place = Place(subfolder, run.store.video.fps, num_before)

    def since(self, first: int = 0) -> list[dict]:
        """Return the cards from window ``first`` on."""
        return window_cards(self._run, self._place, first=first)

    def send(self, node_id: str | None) -> None:
        """Send the page the cards that it does not have yet, for a node."""
        if not (cards := self.since(self._num_sent)):
            return
        self._num_sent = self._run.num_done
        counts = {"num_windows": len(self._run.windows), "num_kept": self._run.num_kept}
        send_event(EVENT, {**counts, "folder": self._place.subfolder, "windows": cards}, node_id)
