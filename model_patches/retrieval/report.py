"""What building an image index did, and its words for people."""

from dataclasses import dataclass, field

KEPT_MESSAGES = 1000


@dataclass
class Report:
    """What a build did; `skipped` and `noted` hold (path, reason) of the first thousand."""

    kept: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    num_skipped: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    noted: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, path: str, reason: str) -> None:
        """Count a file that was refused."""
        self.num_skipped += 1
        if len(self.skipped) < KEPT_MESSAGES:
            self.skipped.append((path, reason))

    def note(self, path: str, text: str) -> None:
        """Remember what was simplified in a file that was used."""
        if text and len(self.noted) < KEPT_MESSAGES:
            self.noted.append((path, text))

    def text(self, *, num_shown: int = 20) -> str:
        """Return the report for people."""
        total = self.kept + self.added + self.changed
        lines = [
            f"{total} pictures in the index: {self.added} new, {self.changed} changed, {self.kept} kept, "
            f"{self.removed} removed, {self.num_skipped} skipped."
        ]
        lines += [f"skipped {path}: {reason}" for path, reason in self.skipped[:num_shown]]
        if self.num_skipped > num_shown:
            lines.append(f"... and {self.num_skipped - num_shown} more skipped.")
        return "\n".join(lines + [f"{path}: {text}" for path, text in self.noted[:num_shown]])
