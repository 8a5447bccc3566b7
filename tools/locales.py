"""Locales: ``locales/en/nodeDefs.json`` is made from the schemas, every other language must have the same keys.

``python3 dev.py remake locales`` rewrites English; ``--check`` only says what is stale or missing.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .node_info import inputs_of, node_info, options_of

LOCALES = Path(__file__).resolve().parents[1] / "locales"
SOURCE = "en"
FILES = ("nodeDefs.json", "main.json")


def english() -> dict[str, dict]:
    """Return the texts of all nodes in the layout that the frontend reads."""
    return {node_id: definition(info) for node_id, info in node_info().items()}


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
        source = dict(leaves(english() if file == "nodeDefs.json" else read(SOURCE, file)))
        for language in languages():
            texts = dict(leaves(read(language, file)))
            found += [
                f"{language}/{file}: {name}" for name, text in source.items() if text and not texts.get(name)
            ]
            found += [f"{language}/{file}: {name} is of nothing" for name in texts if name not in source]
    return found


def text_of(definitions: dict) -> str:
    return json.dumps(definitions, indent=2, ensure_ascii=False) + "\n"


def english_is_current() -> bool:
    path = LOCALES / SOURCE / "nodeDefs.json"
    return path.is_file() and path.read_text(encoding="utf-8") == text_of(english())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if something is stale or missing"
    )
    if not parser.parse_args().check:
        (LOCALES / SOURCE).mkdir(parents=True, exist_ok=True)
        (LOCALES / SOURCE / "nodeDefs.json").write_text(text_of(english()), encoding="utf-8", newline="\n")
    found = missing_keys() + ([] if english_is_current() else ["en/nodeDefs.json is stale"])
    print("\n".join(found) or "All locales are complete.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
