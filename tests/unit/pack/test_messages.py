"""Errors name inputs as the nodes call them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAMED = re.compile(
    r"(?<![\w/.'-])([a-z]+(?:_[a-z]+)+)(?![\w/.(])"  # window_length
    r"|'(\w+)' on\b|[Tt]urn (?:on|off) '?(\w+)'?"  # turn on 'rebuild'
)
NOT_INPUTS = {
    "added_tokens", "begin_of_text", "image_token_index", "model_type", "weight_map",  # in files of models
    "clip_vision_h", "hunyuan_video", "weight_dtype",  # of the host
    "expand_input", "guidance_w_max", "guidance_w_min", "known_shares", "with_image_states",  # of configuration files
}  # fmt: skip


def named_in_errors(source: str) -> Iterator[str]:
    """Yield what looks like an input's name in the text of every ``raise``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            constants = [each.value for each in ast.walk(node.exc) if isinstance(each, ast.Constant)]
            text = " ".join(each for each in constants if isinstance(each, str))
            yield from (next(filter(None, groups)) for groups in NAMED.findall(text))


def names_of_inputs_and_outputs() -> set[str]:
    names = set()
    for path in (ROOT / "nodes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                labels = [each.value for each in node.keywords if each.arg in ("id", "display_name")]
                found = [*node.args[:1], *labels]
                names |= {str(each.value) for each in found if isinstance(each, ast.Constant)}
    return names


def test_errors_name_inputs_that_exist():
    known = names_of_inputs_and_outputs() | NOT_INPUTS
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for room in ("nodes", "model_patches")
        for path in (ROOT / room).rglob("*.py")
        for name in named_in_errors(path.read_text(encoding="utf-8"))
        if name not in known
    }
    assert not wrong


def test_a_wrong_name_is_found():
    source = "raise ValueError(f'Turn on {quote}renew{quote}, or set window_size to 5. {x}')"
    assert list(named_in_errors(source.replace("{quote}", '"').replace('"', ""))) == ["renew", "window_size"]
