"""Inputs that older versions of a node had: prompts that still hold them run, and are told so."""

from comfy_api.latest import io


def ignored_inputs(node: type[io.ComfyNode]) -> list[str]:
    """Return one line that names the inputs in the prompt that the node no longer has, or no line.

    The node's schema must ask for the hidden inputs ``prompt`` and ``unique_id``.
    """
    entry = (node.hidden.prompt or {}).get(node.hidden.unique_id) or {}
    known = {given.id for given in node.define_schema().inputs}
    old = [name for name in entry.get("inputs", {}) if name not in known and "." not in name]
    return [f"Ignored, because this version has no such input: {', '.join(old)}."] if old else []
