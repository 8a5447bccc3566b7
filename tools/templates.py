"""The workflow files by the short names that links, commands and pages use.

A template's file name is the title that ComfyUI shows for it, so it may change; its short name never does.
"""

import json
from pathlib import Path

WIDTH = 120
PACK = Path(__file__).resolve().parents[1]
WORKFLOWS = PACK / "workflows"
TITLES: dict[str, str] = json.loads((PACK / "web" / "template_names.json").read_text(encoding="utf-8"))
"""By short name, in the order in which the template browser shows them."""


def template(name: str) -> Path:
    """Return a workflow file by its short name."""
    return WORKFLOWS / f"{TITLES[name]}.json"


def short_name(path: Path) -> str:
    """Return the short name of a workflow file."""
    return next(name for name, title in TITLES.items() if title == path.stem)


def workflow_text(value: object, before: str = "", indent: str = "") -> str:
    """Return JSON as it is in the workflow files: what fits into a line is on one line.

    Args:
        value: the parsed JSON, or a part of it.
        before: the text before it on its line.
        indent: of its line.
    """
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + before + line) < WIDTH or not isinstance(value, dict | list) or not value:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        names = [f"{json.dumps(name, ensure_ascii=False)}: " for name in value]
        parts = [
            name + workflow_text(part, name, deeper) for name, part in zip(names, value.values(), strict=True)
        ]
    else:
        parts = [workflow_text(part, "", deeper) for part in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"
