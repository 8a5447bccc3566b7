"""Remember which videos this server has finished: one that is gone must be made again, though its prompt is cached."""

from collections import Counter
from pathlib import Path


class FinishedVideos:
    """Finished videos by the name of their run."""

    def __init__(self) -> None:
        self._paths: dict[str, set[Path]] = {}
        self._times_lost: Counter[str] = Counter()

    def add(self, run_name: str, path: Path) -> None:
        """Note a finished video."""
        self._paths.setdefault(run_name, set()).add(path)

    def times_lost(self, run_name: str | None) -> int:
        """Return how often videos were found missing; it changes when one of this run's is.

        Args:
            run_name: None where it is not known; then any run's.
        """
        names = list(self._paths) if run_name is None else [run_name]
        for name in names:
            paths = self._paths.get(name, set())
            lost = {path for path in paths if not path.is_file()}
            paths -= lost
            self._times_lost[name] += bool(lost)
        return sum(self._times_lost[name] for name in names)


finished_videos = FinishedVideos()
