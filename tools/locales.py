"""Locales: English is made from the schemas and the workflows, every other language must have the same keys.

Texts that the frontend does not translate (choices, titles and notes of workflows, progress, errors) are in
``main.json`` under "magic141", from English to the language; ``web/translate.js`` shows them. Progress and errors are
written by hand, with {0}, {1} for the parts that vary.

``python3 dev.py remake locales`` rewrites English; ``--check`` only says what is stale or missing.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .node_info import inputs_of, node_info, options_of
from .templates import TITLES, template

LOCALES = Path(__file__).resolve().parents[1] / "locales"
SOURCE = "en"
OURS = "magic141"
FILES = ("nodeDefs.json", "main.json")


def english(file: str = "nodeDefs.json") -> dict[str, dict]:
    """Return the English texts of a file in the layout that the frontend reads."""
    if file == "nodeDefs.json":
        return {node_id: definition(info) for node_id, info in node_info().items()}
    written = read(SOURCE, file)
    return written | {OURS: written[OURS] | {"options": same(choices()), **texts_of_workflows()}}


def choices() -> set[str]:
    """Return the choices of all our nodes, those of files on disk left out."""
    found = set()
    for info in node_info().values():
        for _, spec, _ in inputs_of(info):
            options = spec[0] if isinstance(spec[0], list) else options_of(spec).get("options", [])
            found |= {option["key"] if isinstance(option, dict) else option for option in options}
    return found


def texts_of_workflows() -> dict[str, dict[str, str]]:
    """Return the titles of groups and nodes in our workflows, and their notes by short name."""
    titles, notes = set(), {}
    for name in TITLES:
        workflow = json.loads(template(name).read_text(encoding="utf-8"))
        titles |= {part["title"] for part in workflow["groups"] + workflow["nodes"] if part.get("title")}
        (notes[name],) = (n["widgets_values"][0] for n in workflow["nodes"] if n["type"] == "MarkdownNote")
    return {"titles": same(titles), "notes": notes}


def same(texts: set[str]) -> dict[str, str]:
    return {text: text for text in sorted(texts)}


def definition(info: dict) -> dict:
    """Return the texts of one node."""
    inputs = {}
    for name, spec, _ in inputs_of(info):
        options = options_of(spec)
        inputs[key(name)] = {"name": options.get("display_name", name), "tooltip": options.get("tooltip", "")}
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": inputs,
        "outputs": {str(i): {"name": name, "tooltip": tip or ""} for i, (name, tip) in enumerate(outputs)},
    }


def key(name: str) -> str:
    """Return a name as the frontend's i18n keys spell it: no dots."""
    return name.replace(".", "_")


def read(language: str, file: str) -> dict:
    path = LOCALES / language / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text with its dotted key."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def languages() -> list[str]:
    return sorted(path.name for path in LOCALES.iterdir() if path.is_dir())


def missing_keys() -> list[str]:
    """Return what some language lacks: keys that are not there, or are empty."""
    found = []
    for file in FILES:
        source = dict(leaves(english(file)))
        for language in languages():
            texts = dict(leaves(read(language, file)))
            found += [
                f"{language}/{file}: {name}" for name, text in source.items() if text and not texts.get(name)
            ]
            found += [
                f"{language}/{file}: {name} has no English text" for name in texts if name not in source
            ]
    return found


def text_of(definitions: dict) -> str:
    return json.dumps(definitions, indent=2, ensure_ascii=False) + "\n"


def stale_files() -> list[str]:
    """Return the English files that are not what schemas and workflows say."""
    paths = {file: LOCALES / SOURCE / file for file in FILES}
    return [
        file for file, path in paths.items() if path.read_text(encoding="utf-8") != text_of(english(file))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if something is stale or missing"
    )
    if not parser.parse_args().check:
        for file in FILES:
            (LOCALES / SOURCE / file).write_text(text_of(english(file)), encoding="utf-8", newline="\n")
    found = missing_keys() + [f"en/{file} is stale" for file in stale_files()]
    print("\n".join(found) or "All locales are complete.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
