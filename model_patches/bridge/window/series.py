"""Repeat a part of the running graph, window after window, inside one prompt.

What lies between Window Start and Window Save is copied for every window. Window Start expands to a node *next*,
which expands to the copies of one window and to the following *next*, and so on. Window Start waits for the last one,
and Window Save runs when all windows are written. Only *next* nodes wait, and they hold nothing large.

All private parts of the host that this needs are used here: the running graph, its expansion, and its caches.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from comfy_execution.caching import HierarchicalCache, NullCache
from comfy_execution.graph_utils import GraphBuilder, is_link

from ..graph_identity import Graph, GraphIdentity, graph_identity, node_class, running_graph
from .graph_walk import Link, ancestors, check_frames_come_from, descendants, find_save, links_of

NEXT, FRAMES, WRITE = "Magic141WindowNext", "Magic141WindowFrames", "Magic141WindowWrite"


@dataclass(frozen=True)
class Body:
    """The part of a graph that makes a window.

    nodes: what is copied, without Window Start and Window Save. outer: the links that enter it from outside. display:
    node id -> the node on the screen that shows its progress and pictures. values: of outer links, once known.
    """

    start_id: str
    save_id: str
    nodes: dict[str, dict]
    save_inputs: dict[str, object]
    outer: tuple[Link, ...]
    display: dict[str, str]
    values: dict[Link, object] = field(default_factory=dict)


def read_graph(dynprompt) -> Graph:
    """Return the running graph from the host's ``DynamicPrompt``."""
    try:
        return running_graph(dynprompt)
    except AttributeError as error:
        raise ValueError(
            f"This version of ComfyUI does not show the running graph to nodes ({error}), which Window Start needs. "
            "Use Sliding Window Extend, or a version of ComfyUI that this pack names."
        ) from error


def body_identity(graph: Graph, body: Body) -> GraphIdentity:
    """Return the identity of the graph that makes the windows, without the inputs of Window Start."""
    without_start = {**graph, body.start_id: {"class_type": FRAMES, "inputs": {}}}
    return graph_identity(without_start, body.save_id, ["images", "video", "latent"])


def find_body(graph: Graph, dynprompt, start_id: str) -> Body:
    """Return what lies between a Window Start and its Window Save, with output nodes that depend on it.

    Raises:
        ValueError: the two nodes are not connected as they should be.
    """
    save_id = find_save(graph, start_id)
    check_frames_come_from(graph, start_id, save_id)
    behind_save = descendants(graph, save_id)
    inside = descendants(graph, start_id) - behind_save - {start_id}
    shown = {node_id for node_id in inside if is_output(graph[node_id]["class_type"])}
    inside &= ancestors(graph, {save_id} | shown)
    nodes = {node_id: graph[node_id] for node_id in inside}
    save_inputs = graph[save_id]["inputs"]
    links = {link for node in nodes.values() for link in links_of(node)} | set(links_of(graph[save_id]))
    outer = sorted(link for link in links if link[0] not in nodes and link[0] != start_id)
    display = {node_id: dynprompt.get_display_node_id(node_id) for node_id in [*nodes, start_id, save_id]}
    return Body(start_id, save_id, nodes, dict(save_inputs), tuple(outer), display)


def is_output(class_type: str) -> bool:
    """Return whether a node is an output node, which the host runs even if nothing is connected to it."""
    return bool(getattr(node_class(class_type), "OUTPUT_NODE", False))


def first_next(body: Body, series: object) -> tuple[dict, list]:
    """Return the expansion of Window Start: *next* alone, and the link to its result.

    *Next* takes every link that enters the body. So the copies get values instead of links, and no node outside runs
    again.
    """
    graph = GraphBuilder()
    links = {f"outer_{number}": list(link) for number, link in enumerate(body.outer)}
    inputs = {"series": series, "body": body, "token": None, **links}
    node = add_node(graph, NEXT, "n", inputs, body.display[body.start_id])
    return graph.finalize(), node.out(0)


def with_values(body: Body, values: Mapping[str, list]) -> Body:
    """Return a body that knows the values of the links that enter it.

    Args:
        values: name of *next*'s input -> all values the host has for it.
    """
    known = {link: single_value(values[f"outer_{number}"]) for number, link in enumerate(body.outer)}
    return replace(body, values=body.values | known)


def single_value(values: list) -> object:
    """Return the single value of an output.

    Raises:
        ValueError: there are several, for each of which the host would run the next node.
    """
    if len(values) != 1:
        raise ValueError(
            f"A node outside gives a list of {len(values)} values to what lies between Window Start and Window Save; "
            "one is needed. Take one of them with a node such as Select from list."
        )
    return values[0]


def one_window(body: Body, series: object) -> tuple[dict, list]:
    """Return the expansion of *next*: the copies for one window, its Window Write, and the following *next*."""
    graph = GraphBuilder()
    ids = {node_id: f"b{number}" for number, node_id in enumerate(sorted(body.nodes))}
    add_node(graph, FRAMES, "f", {"series": series}, body.display[body.start_id])
    for node_id, node in body.nodes.items():
        inputs = moved_inputs(node["inputs"], body, ids, graph.prefix)
        add_node(graph, node["class_type"], ids[node_id], inputs, body.display[node_id])
    inputs = moved_inputs(body.save_inputs, body, ids, graph.prefix)
    write = add_node(graph, WRITE, "w", inputs, body.display[body.save_id])
    inputs = {"series": series, "body": body, "token": write.out(0)}
    following = add_node(graph, NEXT, "n", inputs, body.display[body.start_id])
    return graph.finalize(), following.out(0)


def add_node(graph: GraphBuilder, class_type: str, node_id: str, inputs: dict, display_id: str):
    """Add a node to an expansion; its progress and pictures appear on the node ``display_id``."""
    node = graph.node(class_type, node_id)
    node.inputs.update(inputs)
    node.set_override_display_id(display_id)
    return node


def moved_inputs(inputs: Mapping[str, object], body: Body, ids: Mapping[str, str], prefix: str) -> dict:
    """Return a node's inputs with links to the copies, and with values in place of links from outside."""

    def moved(value: object) -> object:
        if not isinstance(value, list) or not is_link(value):
            return value
        source, slot = value[0], int(value[1])
        if source == body.start_id:
            return [f"{prefix}f", slot]
        return [prefix + ids[source], slot] if source in ids else body.values[source, slot]

    return {name: moved(value) for name, value in inputs.items()}


def forget_outputs(dynprompt, node_id: str) -> None:
    """Drop from the host's cache what the windows before this *next* made: the pictures of a minute fill any memory.

    The host has no call for it, so the running executor is looked up on the stack.

    Args:
        dynprompt: the running graph.
        node_id: of *next*.

    Raises:
        ValueError: this version of the host has another kind of cache.
    """
    try:
        caches = running_executor().caches
        parent = dynprompt.get_parent_node_id(node_id)
        expanded = (parent, None if parent is None else dynprompt.get_parent_node_id(parent))
        copies = [copy for copy, source in dynprompt.ephemeral_parents.items() if source in expanded]
        for cache in (caches.outputs, caches.objects):
            drop_outputs(cache, [copy for copy in copies if copy != node_id])
    except (AttributeError, LookupError) as error:
        raise ValueError(
            f"This version of ComfyUI keeps finished pictures in a way this pack does not know ({error}), so that "
            "every window would stay in memory. The finished windows are kept. Use Sliding Window Extend, or a version "
            "of ComfyUI that this pack names."
        ) from error


def running_executor():
    """Return the executor that runs the calling node."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "execute_async" and hasattr(frame.f_locals.get("self"), "caches"):
            return frame.f_locals["self"]
        frame = frame.f_back
    raise LookupError("the executor is not on the stack")


def drop_outputs(cache, node_ids: list[str]) -> None:
    """Remove the outputs of these nodes from one of the host's caches, of any kind."""
    if isinstance(cache, NullCache):
        return
    for node_id in node_ids:
        place = cache._get_cache_for(node_id) if isinstance(cache, HierarchicalCache) else cache
        if place is None:
            continue
        key = place.cache_key_set.get_data_key(node_id)
        place.cache.pop(key, None)
        for table in ("used_generation", "timestamps", "children"):
            getattr(place, table, {}).pop(key, None)
