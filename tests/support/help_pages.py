"""Help pages of the nodes: ``web/docs/<NodeId>.md``, prose by hand above, inputs and outputs from the schema below.

``python -m magic141.tests.support.help_pages`` rewrites the lower part; ``--check`` only says which pages are stale.
The prose is what stands above the marker; it is never touched.
"""

import argparse
import sys
from pathlib import Path

from magic141.tests.support.node_info import inputs_of, node_info, options_of

DOCS = Path(__file__).resolve().parents[2] / "web" / "docs"
MARKER = "<!-- From here on made from the node's schema; edit the schema instead. -->"
SECTIONS = ("## Example", "## Common mistakes")
TYPE_NAMES = {
    "INT": "whole number",
    "FLOAT": "number",
    "STRING": "text",
    "BOOLEAN": "on / off",
    "COMBO": "choice",
}


def page(info: dict, prose: str) -> str:
    """Return a whole page: prose, marker, reference."""
    return f"{prose.strip()}\n\n{MARKER}\n\n{reference(info)}"


def new_prose(info: dict) -> str:
    """Return what a page without prose starts from; the check refuses it until it is written."""
    return f"# {info['display_name']}\n\n{info['description']}\n\n" + "\n\nTODO\n\n".join([*SECTIONS, ""])


def prose_of(text: str) -> str:
    """Return the hand-written part of a page."""
    return text.partition(MARKER)[0]


def reference(info: dict) -> str:
    """Return the inputs and outputs of a node as lists, which fit the narrow panel they are read in."""
    lines = ["## Inputs", ""]
    for name, spec, required in inputs_of(info):
        facts = [kind(spec), default(spec) and f"default {default(spec)}", "" if required else "optional"]
        lines.append(entry(name, facts, options_of(spec).get("tooltip", "")))
    lines += ["", "## Outputs", ""]
    outputs = zip(info["output_name"], info["output"], info["output_tooltips"], strict=True)
    lines += [entry(name, [f"`{type_}`"], tooltip or "") for name, type_, tooltip in outputs]
    if info.get("search_aliases"):
        lines += ["", f"Also found as: {', '.join(info['search_aliases'])}."]
    return "\n".join(lines) + "\n"


def entry(name: str, facts: list[str], text: str) -> str:
    """Return one item of a list: name, facts in brackets, what it is for."""
    return f"- **{name}** ({'; '.join(fact for fact in facts if fact)}): {one_line(text)}"


def kind(spec: list) -> str:
    """Return the type of an input, its choices or its range."""
    options, type_ = options_of(spec), spec[0]
    choices = type_ if isinstance(type_, list) else options.get("options")
    if choices is not None:
        names = [choice["key"] if isinstance(choice, dict) else str(choice) for choice in choices]
        return " · ".join(f"`{one_line(name)}`" for name in names) or "what is in the model folders"
    name = TYPE_NAMES.get(type_, f"`{type_}`")
    if "min" in options and "max" in options:
        name += f", {number(options['min'])} to {number(options['max'])}"
    if options.get("step") not in (None, 1):
        name += f" in steps of {number(options['step'])}"
    return name


def default(spec: list) -> str:
    """Return the default of a widget as the node shows it."""
    options = options_of(spec)
    choices = spec[0] if isinstance(spec[0], list) else options.get("options") or [None]
    value = options.get("default", choices[0])
    if value is None or value == "" or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"`{one_line(number(value))}`"


def number(value: object) -> str:
    """Return a number as people write it; the largest seed as 2^64 - 1."""
    if value == 0xFFFFFFFFFFFFFFFF:
        return "2^64 - 1"
    return f"{value:g}" if isinstance(value, float) else str(value)


def one_line(text: str) -> str:
    """Return text without line breaks."""
    return text.replace("\n", " ")


def pages() -> dict[Path, str]:
    """Return every page as it should be."""
    wanted = {}
    for node_id, info in node_info().items():
        path = DOCS / f"{node_id}.md"
        prose = prose_of(path.read_text(encoding="utf-8")) if path.is_file() else new_prose(info)
        wanted[path] = page(info, prose)
    return wanted


def problems() -> list[str]:
    """Return what is wrong with the pages: stale, unwritten, or of no node."""
    wanted = pages()
    found = [f"{path.name} belongs to no node" for path in sorted(DOCS.glob("*.md")) if path not in wanted]
    for path, text in wanted.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(f"{path.name} is stale: run python -m magic141.tests.support.help_pages")
        prose = prose_of(text)
        if "TODO" in prose or not all(section in prose for section in SECTIONS):
            found.append(f"{path.name} lacks prose: an example and the common mistakes")
        missing = [name for name in pictures_of(prose) if not (DOCS / name).is_file()]
        found += [f"{path.name} shows {name}, which is not there" for name in missing]
    return found


def pictures_of(prose: str) -> list[str]:
    """Return the files that a page shows."""
    return [part.partition(")")[0] for part in prose.split("](")[1:] if not part.startswith(("http", "#"))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    if not parser.parse_args().check:
        DOCS.mkdir(parents=True, exist_ok=True)
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8", newline="\n")
    found = problems()
    print("\n".join(found) or "All help pages are current.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
