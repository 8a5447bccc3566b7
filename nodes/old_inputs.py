"""Inputs and choices that older versions of a node had: prompts that still hold them run, and are told so."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io


def describe_old_inputs(node: type[io.ComfyNode], inputs: Mapping[str, Any] | None = None) -> list[str]:
    """Return one line that names the inputs in a prompt that the node no longer has, or no line.

    Args:
        node: its choices of older versions stand in ``OLD_CHOICES``: by input, what each one is now.
        inputs: what the prompt gives; without it, of the hidden ``prompt``, which the schema must then ask for
            beside ``unique_id``.
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
