"""What people read is spelled the American way, as ComfyUI spells it."""

import re
from pathlib import Path

import pytest
from magic141.tools.help_pages import prose_of

ROOT = Path(__file__).resolve().parents[3]
BRITISH = re.compile(
    r"\b\w*colour\w*|\blicence\w*|\bbehaviour\w*|\bneighbour\w*|\bfavour\w*|\bgrey\w*|\bcentr(?:e|es|ed|ing)\b"
    r"|\bartefact\w*|\blearnt\b|\bcancell(?:ed|ing)\b|\blabell(?:ed|ing)\b|\bmodell(?:ed|ing)\b"
    r"|\b(?:\w*normal|recogn|organ|summar|initial|optim|serial|minim|maxim|real|visual|general|synchron)is(?:e|es|ed|er|ing|ation)\b"
    r"|\banalys(?:e|ed|ing)\b|\bjudgement\b|\bwhilst\b|\bcatalogue\b",
    re.IGNORECASE,
)
NAMES = {"normalise", "shape_colour", "last_frame_shape_colour_accuracy"}
"""Names of inputs and figures, which are not respelled: files and scripts know them."""
SEARCHED_FOR = '"colour shift"'
"""What British people type to find a node."""
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "dev.py", "pyproject.toml")),
    *(path for folder in (
          "docs", "workflows", "subgraphs", "web", "tools", "embedded/models", "nodes", "model_patches", "locales/en",
      )
      for suffix in ("md", "json", "js", "py") for path in sorted((ROOT / folder).rglob(f"*.{suffix}"))
      if path.stem != "zh" and not path.name.startswith(("tokenizer", "config", "generation"))),
    ROOT / "lab" / "README.md",
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_spelling_is_american(path):
    text = path.read_text(encoding="utf-8")
    if path.is_relative_to(ROOT / "web" / "docs"):
        text = prose_of(text)  # the rest is made from the schemas
    found = [word for word in BRITISH.findall(text.replace(SEARCHED_FOR, "")) if word not in NAMES]
    assert found == []


def test_a_british_word_is_found():
    assert BRITISH.findall("Colours, greyer; it was normalised and cancelled.") == [
        "Colours", "greyer", "normalised", "cancelled",
    ]  # fmt: skip
