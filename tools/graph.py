"""Turn a workflow file (the UI's format) into the prompt that the server runs, like the frontend's graphToPrompt.

Covers what our workflows contain: widget values in schema order, the extra value after a seed
(control_after_generate) and after an upload, dynamic combos, links turned into widgets, muted and
bypassed nodes, notes, reroutes, primitives and subgraphs.
"""

from collections.abc import Iterator
from dataclasses import dataclass

VIRTUAL = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
MUTED, BYPASSED = 2, 4
SUBGRAPH_INPUT, SUBGRAPH_OUTPUT = -10, -20
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}
CONTROL_VALUES = ("fixed", "increment", "decrement", "randomize")


class WorkflowError(ValueError):
    """The file does not fit the server: an unknown node type, too few widget values, a broken link."""


@dataclass
class Graph:
    """One level of a workflow: the root, or the inside of a subgraph node.

    ``prefix`` comes before the node ids in the prompt; ``outer`` is the graph and the node that contain this one.
    """

    nodes: dict[int, dict]
    links: dict[int, dict]
    definition: dict
    prefix: str = ""
    outer: "tuple[Graph, dict] | None" = None


def workflow_to_prompt(workflow: dict, object_info: dict[str, dict]) -> dict[str, dict]:
    """Return the API prompt of a UI workflow.

    Args:
        workflow: the parsed JSON file.
        object_info: the server's /object_info.
    Raises:
        WorkflowError: the workflow names something that the server does not know.
    """
    subgraphs = {entry["id"]: entry for entry in workflow.get("definitions", {}).get("subgraphs", [])}
    prompt = {}
    for graph, node in walk(read_graph(workflow), subgraphs):
        if node["type"] not in object_info:
            raise WorkflowError(
                f"Node {node['id']} has the type {node['type']!r}, which the server does not know."
            )
        info = object_info[node["type"]]
        inputs = {**widget_values(node, info), **linked_inputs(graph, node, subgraphs)}
        prompt[graph.prefix + str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return drop_dangling(prompt)


def read_graph(definition: dict, prefix: str = "", outer: "tuple[Graph, dict] | None" = None) -> Graph:
    links = (link_as_dict(link) for link in definition.get("links", []))
    nodes = {node["id"]: node for node in definition["nodes"]}
    return Graph(nodes, {link["id"]: link for link in links}, definition, prefix, outer)


def link_as_dict(link: list | dict) -> dict:
    if isinstance(link, dict):
        return link
    return dict(
        zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=False)
    )


def walk(graph: Graph, subgraphs: dict[str, dict]) -> Iterator[tuple[Graph, dict]]:
    """Yield every node that will run, with its graph, going down into subgraphs."""
    for node in graph.nodes.values():
        if node["type"] in VIRTUAL or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] in subgraphs:
            yield from walk(inside(graph, node, subgraphs), subgraphs)
        else:
            yield graph, node


def inside(graph: Graph, node: dict, subgraphs: dict[str, dict]) -> Graph:
    return read_graph(subgraphs[node["type"]], f"{graph.prefix}{node['id']}:", (graph, node))


# --- widgets -----------------------------------------------------------------------------------------------


def widget_values(node: dict, info: dict) -> dict:
    """Return the node's widget values by input name."""
    values = node.get("widgets_values", [])
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if name in widget_names(info)}
    remaining = list(values)
    return dict(take_values(ordered_inputs(info), remaining, node, ""))


def widget_names(info: dict) -> list[str]:
    return [name for name, spec in ordered_inputs(info) if is_widget(spec)]


def ordered_inputs(info: dict) -> list[tuple[str, list]]:
    inputs = info["input"] if "input" in info else info["inputs"]
    order = info.get("input_order", {})
    sections = [(inputs.get(key, {}), order.get(key)) for key in ("required", "optional")]
    return [(name, section[name]) for section, names in sections for name in (names or section)]


def take_values(
    inputs: list[tuple[str, list]], remaining: list, node: dict, prefix: str
) -> Iterator[tuple[str, object]]:
    for name, spec in inputs:
        if not is_widget(spec):
            continue
        value = remaining.pop(0) if remaining else default_of(spec, f"{node['type']}.{prefix}{name}")
        yield prefix + name, value
        skip_companion(name, spec, remaining)
        for option in options_of(spec):
            if option["key"] == value:
                yield from take_values(ordered_inputs(option), remaining, node, f"{prefix}{name}.")


def default_of(spec: list, name: str) -> object:
    """Return the value that the frontend gives a widget that is newer than the file."""
    options = spec[1] if len(spec) > 1 else {}
    choices = spec[0] if isinstance(spec[0], list) else options.get("options") or [EMPTY.get(spec[0])]
    first = choices[0]
    if isinstance(first, dict):
        first = first["key"]
    value = options.get("default", first)
    if value is None:
        raise WorkflowError(f"The file has no value for the widget {name}, and the widget has no default.")
    return value


def options_of(spec: list) -> list[dict]:
    return spec[1]["options"] if spec[0] == "COMFY_DYNAMICCOMBO_V3" else []


def is_widget(spec: list) -> bool:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if options.get("forceInput"):
        return False
    return isinstance(kind, list) or options.get("widgetType", kind) in WIDGET_TYPES


def skip_companion(name: str, spec: list, remaining: list) -> None:
    """Drop the value of the extra widget that the frontend adds after a seed or an upload."""
    options = spec[1] if len(spec) > 1 else {}
    seeded = options.get("control_after_generate") or (spec[0] == "INT" and name in ("seed", "noise_seed"))
    upload = any(options.get(f"{kind}_upload") for kind in ("image", "video", "audio"))
    if remaining and ((seeded and remaining[0] in CONTROL_VALUES) or (upload and remaining[0] in UPLOADS)):
        remaining.pop(0)


UPLOADS = ("image", "video", "audio", "upload")


# --- links -------------------------------------------------------------------------------------------------


def linked_inputs(graph: Graph, node: dict, subgraphs: dict[str, dict]) -> dict:
    """Return the value of each linked input of a node: ``[node id, slot]``, or the value of a primitive."""
    values = {}
    for entry in node.get("inputs", []):
        if entry.get("link") is None:
            continue
        source = resolve(graph, entry["link"], subgraphs)
        if source is not None:
            values[entry["name"]] = source
    return values


def resolve(graph: Graph, link_id: int, subgraphs: dict[str, dict]) -> object:
    """Follow a link back to the node that makes its value, through all nodes that do not run."""
    if link_id not in graph.links:
        raise WorkflowError(f"Link {link_id} is used but not defined.")
    link = graph.links[link_id]
    if link["origin_id"] == SUBGRAPH_INPUT:
        return resolve_outside(graph, link["origin_slot"], subgraphs)
    node, slot = graph.nodes[link["origin_id"]], link["origin_slot"]
    if node.get("mode", 0) == MUTED:
        return None
    if node["type"] == "PrimitiveNode":
        return node["widgets_values"][0]
    if node["type"] == "Reroute":
        return follow(graph, node["inputs"][0], subgraphs)
    if node.get("mode", 0) == BYPASSED:
        return follow(graph, bypass_input(node, slot), subgraphs)
    if node["type"] in subgraphs:
        return resolve_inside(inside(graph, node, subgraphs), slot, subgraphs)
    return [graph.prefix + str(node["id"]), slot]


def follow(graph: Graph, entry: dict | None, subgraphs: dict[str, dict]) -> object:
    if entry is None or entry.get("link") is None:
        return None
    return resolve(graph, entry["link"], subgraphs)


def bypass_input(node: dict, slot: int) -> dict | None:
    """Return the input that a bypassed node passes through: same slot if the type fits, else the first that fits."""
    wanted = node["outputs"][slot]["type"]
    inputs = node.get("inputs", [])
    candidates = inputs[slot : slot + 1] + inputs
    return next((entry for entry in candidates if entry["type"] in (wanted, "*") or wanted == "*"), None)


def resolve_outside(graph: Graph, slot: int, subgraphs: dict[str, dict]) -> object:
    """Follow a subgraph's input out to the subgraph node: to a link, or to a widget on it."""
    if graph.outer is None:
        raise WorkflowError("A link starts at a subgraph's input, but this is no subgraph.")
    outer, node = graph.outer
    name = graph.definition["inputs"][slot]["name"]
    entry = next((entry for entry in node.get("inputs", []) if entry["name"] == name), None)
    if entry is not None and entry.get("link") is not None:
        return resolve(outer, entry["link"], subgraphs)
    return subgraph_widget(node, name)


def subgraph_widget(node: dict, name: str) -> object:
    """Return the value set on the subgraph node for a promoted widget; None leaves the inner node's own value."""
    promoted = [
        widget for owner, widget in node.get("properties", {}).get("proxyWidgets", []) if owner == "-1"
    ]
    values = node.get("widgets_values") or []
    index = promoted.index(name) if name in promoted else len(values)
    return values[index] if index < len(values) else None


def resolve_inside(graph: Graph, slot: int, subgraphs: dict[str, dict]) -> object:
    """Follow a subgraph node's output to the inner node that makes it."""
    ends = (SUBGRAPH_OUTPUT, slot)
    link = next(
        (link for link in graph.links.values() if (link["target_id"], link["target_slot"]) == ends), None
    )
    return None if link is None else resolve(graph, link["id"], subgraphs)


def drop_dangling(prompt: dict[str, dict]) -> dict[str, dict]:
    """Remove inputs that point at nodes which do not run."""
    for node in prompt.values():
        node["inputs"] = {
            name: value for name, value in node["inputs"].items() if not is_link(value) or value[0] in prompt
        }
    return prompt


def is_link(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
    )
