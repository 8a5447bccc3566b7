"""What other systems need: text with its encoding named, since Windows has another default, and no fork."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(path for top in ("nodes", "model_patches") for path in (ROOT / top).rglob("*.py"))
TEXT = {"read_text": 0, "write_text": 1, "NamedTemporaryFile": 99, "fdopen": 2}
"""How many arguments of a call stand before the encoding."""


def faults(source: str) -> list[int]:
    """Return the lines that read or write text in the system's own encoding, or that fork."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name == "fork" or (name == "get_context" and "fork" in ast.unparse(call)):
            found.append(call.lineno)
        named = any(word.arg == "encoding" for word in call.keywords)
        is_video = ast.unparse(call.func) == "av.open"
        opens_text = name == "open" and not is_video and _mode(call) and "b" not in _mode(call)
        is_text = opens_text or (name in TEXT and len(call.args) <= TEXT[name])
        if is_text and not named:
            found.append(call.lineno)
    return found


def _mode(call: ast.Call) -> str:
    """Return the mode that a file is opened with, "" where it is another kind of opening."""
    values = [*call.args, *(word.value for word in call.keywords if word.arg == "mode")]
    texts = [
        value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]
    return next((text for text in texts if set(text) <= set("rwaxbt+")), "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_text_names_its_encoding_and_nothing_forks(path):
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["path.read_text()", "path.write_text(text)", "open(path, 'w')", "path.open('a')", "os.fork()"],
)
def test_such_lines_are_found(line):
    assert faults(line) == [1]


def test_what_names_it_passes():
    assert faults("path.read_text('utf-8')\npath.open('rb')\nav.open(path, 'r', encoding='utf-8')") == []
