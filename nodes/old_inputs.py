"""Inputs and choices that older versions of a node had: prompts with them still run, and the node says so."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io


def describe_old_inputs(node: type[io.ComfyNode], inputs: Mapping[str, Any] | None = None) -> list[str]:
    """Return a line that names the inputs of a prompt that the node no longer has; no line if there are none.

    Args:
        node: its ``OLD_CHOICES`` say, by input, what each choice of older versions is now.
        inputs: of the prompt; None takes them from the hidden ``prompt``, which the schema must then ask for along
            with ``unique_id``.
    """
    given = _prompt_inputs(node) if inputs is None else inputs
    schema = node.define_schema()
    known = {each.id for each in schema.inputs}
    old = [name for name in given if name not in known and "." not in name]
    for name, choices in getattr(node, "OLD_CHOICES", {}).items():
        if given.get(name) in list(choices):  # a list: the value may be a link, which has no hash
            old.append(f"{name} {given[name]!r} (now {choices[given[name]]!r})")
    if not old:
        return []
    return [f"{schema.display_name} no longer has these settings and left them out: {', '.join(old)}."]


def _prompt_inputs(node: type[io.ComfyNode]) -> Mapping[str, Any]:
    prompt = node.hidden.prompt or {}
    return (prompt.get(node.hidden.unique_id) or {}).get("inputs", {})
