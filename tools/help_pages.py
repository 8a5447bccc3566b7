"""Help pages of the nodes: ``web/docs/<NodeId>.md``, prose by hand above, inputs and outputs from the schema below.

``python3 dev.py remake help`` rewrites the lower part; ``--check`` only says which pages are stale. The prose above the
marker is never touched. Where there is a translation, ``<NodeId>/<language>.md``, its lower part
is made from the locale of that language; without one the frontend shows the English page.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from . import locales, node_pictures
from .help_words import ENGLISH, TRANSLATIONS, Words
from .node_info import inputs_of, node_info, options_of

DOCS = Path(__file__).resolve().parents[1] / "web" / "docs"


def page(info: dict, prose: str, words: Words = ENGLISH, texts: dict | None = None) -> str:
    """Return a whole page: prose, marker, reference."""
    return f"{prose.strip()}\n\n{words.marker}\n\n{reference(info, words, texts)}"


def new_prose(info: dict) -> str:
    """Return the prose that a new page starts with; the check refuses the page until the prose is written."""
    name = info["display_name"]
    start = (
        f"# {name}\n\n{info['description']}\n\n![{ENGLISH.picture.format(name)}]({picture(info['name'])})\n\n"
    )
    return start + "\n\nTODO\n\n".join([*ENGLISH.sections, ""])


def picture(node_id: str) -> str:
    """Return the path of a node's picture, as pages name it."""
    return f"images/{node_id}.png"


def prose_of(text: str, words: Words = ENGLISH) -> str:
    """Return the hand-written part of a page."""
    return text.partition(words.marker)[0]


def reference(info: dict, words: Words = ENGLISH, texts: dict | None = None) -> str:
    """Return the inputs and outputs of a node as lists, which fit into the narrow panel of the frontend.

    Args:
        texts: names and tooltips as a locale holds them; None for those of the schema.
    """
    texts = texts or locales.definition(info)
    lines = [words.inputs, ""]
    for name, spec, required in inputs_of(info):
        shown = texts["inputs"][locales.key(name)]
        facts = [kind(spec, words), default(spec, words), "" if required else words.optional]
        lines.append(entry(shown["name"], facts, shown["tooltip"]))
    lines += ["", words.outputs, ""]
    for slot, type_ in enumerate(info["output"]):
        shown = texts["outputs"][str(slot)]
        lines.append(entry(shown["name"], [f"`{type_}`"], shown["tooltip"]))
    if info.get("search_aliases"):
        lines += ["", words.also.format(", ".join(info["search_aliases"]))]
    return "\n".join(lines) + "\n"


def entry(name: str, facts: list[str], text: str) -> str:
    """Return one item of a list: name, facts in brackets, what it is for."""
    return f"- **{name}** ({'; '.join(fact for fact in facts if fact)}): {one_line(text)}"


def kind(spec: list, words: Words) -> str:
    """Return the type of an input, its choices or its range."""
    options, type_ = options_of(spec), spec[0]
    choices = type_ if isinstance(type_, list) else options.get("options")
    if choices is not None:
        names = [choice["key"] if isinstance(choice, dict) else str(choice) for choice in choices]
        return " · ".join(f"`{one_line(name)}`" for name in names) or words.models
    name = words.types.get(str(type_), f"`{type_}`")
    if "min" in options and "max" in options:
        name += words.range.format(number(options["min"]), number(options["max"]))
    if options.get("step") not in (None, 1):
        name += words.step.format(number(options["step"]))
    return name


def default(spec: list, words: Words) -> str:
    """Return the default of a widget as the node shows it, or nothing."""
    options = options_of(spec)
    choices = spec[0] if isinstance(spec[0], list) else options.get("options") or [None]
    value = options.get("default", choices[0] if choices else None)
    if value is None or value == "" or isinstance(value, dict):
        return ""
    if isinstance(value, bool):
        return words.default.format(words.on if value else words.off)
    return words.default.format(f"`{one_line(number(value))}`")


def number(value: object) -> str:
    """Return a number as people write it; the largest seed as 2^64 - 1."""
    if value == 0xFFFFFFFFFFFFFFFF:
        return "2^64 - 1"
    return f"{value:g}" if isinstance(value, float) else str(value)


def one_line(text: str) -> str:
    """Return text without line breaks."""
    return text.replace("\n", " ")


def pages() -> Iterator[tuple[Path, str, Words]]:
    """Yield every page as it should be: path, text, language."""
    for node_id, info in node_info().items():
        path = DOCS / f"{node_id}.md"
        prose = prose_of(path.read_text(encoding="utf-8")) if path.is_file() else new_prose(info)
        yield path, page(info, prose), ENGLISH
        for language, words in TRANSLATIONS.items():
            path = DOCS / node_id / f"{language}.md"
            if path.is_file():
                texts = locales.read(language, "nodeDefs.json")[node_id]
                yield path, page(info, prose_of(path.read_text(encoding="utf-8"), words), words, texts), words


def problems() -> list[str]:
    """Return what is wrong with the pages: stale, unwritten, without their pictures, or of no node."""
    wanted = list(pages())
    found = [f"{name}.md has a stale picture: run dev.py remake pictures" for name in node_pictures.stale()]
    known = {path for path, _, _ in wanted}
    found += [f"{label(path)} belongs to no node" for path in sorted(DOCS.rglob("*.md")) if path not in known]
    for path, text, words in wanted:
        found += page_problems(path, text, words)
    return found


def page_problems(path: Path, text: str, words: Words) -> Iterator[str]:
    """Yield what is wrong with one page, given as it should be."""
    node_id = path.stem if words is ENGLISH else path.parent.name
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        yield f"{label(path)} is stale: run dev.py remake help"
    prose = prose_of(text, words)
    if "TODO" in prose or not all(section in prose for section in words.sections):
        yield f"{label(path)} lacks prose: an example and the common mistakes"
    shown = pictures_of(prose)
    if picture(node_id) not in shown:
        yield f"{label(path)} shows no picture of the node: {picture(node_id)}"
    for name in shown:
        if not (DOCS / name).is_file():
            yield f"{label(path)} shows {name}, which is not there"


def label(path: Path) -> str:
    """Return a page's path below the folder of all pages."""
    return path.relative_to(DOCS).as_posix()


def pictures_of(prose: str) -> list[str]:
    """Return the files that a page shows."""
    return [part.partition(")")[0] for part in prose.split("](")[1:] if not part.startswith(("http", "#"))]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake help", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    if not parser.parse_args().check:
        DOCS.mkdir(parents=True, exist_ok=True)
        for path, text, _ in list(pages()):
            path.write_text(text, encoding="utf-8", newline="\n")
    found = problems()
    print("\n".join(found) or "All help pages are current.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
