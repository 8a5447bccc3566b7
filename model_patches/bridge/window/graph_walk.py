"""Walk a graph: what lies between a Window Start and its Window Save, and whether it can be repeated."""

from collections.abc import Iterable

from comfy_execution.graph_utils import is_link

from ..graph_identity import Graph

START, SAVE = "Magic141WindowStart", "Magic141WindowSave"

Link = tuple[str, int]


def links_of(node: dict) -> list[Link]:
    """Return what a node's inputs are linked to."""
    return [link for name in node["inputs"] if (link := link_of(node, name)) is not None]


def ancestors(graph: Graph, node_ids: Iterable[str]) -> set[str]:
    """Return these nodes and all that they depend on."""
    found: set[str] = set()
    to_visit = [node_id for node_id in node_ids if node_id in graph]
    while to_visit:
        node_id = to_visit.pop()
        if node_id not in found:
            found.add(node_id)
            to_visit += [source for source, _ in links_of(graph[node_id]) if source in graph]
    return found


def descendants(graph: Graph, node_id: str) -> set[str]:
    """Return this node and all that depend on it."""
    users: dict[str, list[str]] = {}
    for user, node in graph.items():
        for source, _ in links_of(node):
            users.setdefault(source, []).append(user)
    found, to_visit = set(), [node_id]
    while to_visit:
        current = to_visit.pop()
        if current not in found:
            found.add(current)
            to_visit += users.get(current, [])
    return found


def find_save(graph: Graph, start_id: str) -> str:
    """Return the Window Save that belongs to a Window Start.

    Raises:
        ValueError: there is none or more than one, or it stands somewhere else.
    """
    saves = [
        node_id
        for node_id, node in graph.items()
        if node["class_type"] == SAVE and link_of(node, "window") == (start_id, 0)
    ]
    if len(saves) > 1:
        raise ValueError(
            f"{len(saves)} Window Save nodes are connected to this Window Start; a run has one. Remove the others, or "
            "give each a Window Start of its own."
        )
    if not saves:
        raise ValueError(
            "No Window Save is connected to this Window Start. Connect window of Window Start to window of Window "
            "Save, and the frames your graph makes to its images (a muted node in between cuts the connection)."
        )
    return saves[0]


def link_of(node: dict, name: str) -> Link | None:
    """Return what an input is linked to, or None."""
    value = node["inputs"].get(name)
    return (value[0], int(value[1])) if is_link(value) else None


def check_frames_come_from(graph: Graph, start_id: str, save_id: str) -> None:
    """Refuse a Window Save whose frames are not made from what its Window Start hands out."""
    save = graph[save_id]
    sources = [link for name in ("images", "video") if (link := link_of(save, name)) is not None]
    if len(sources) != 1:
        raise ValueError(
            "Connect images or video of Window Save, one of them: the whole clip that your graph makes. If it is "
            "connected, a node between Window Start and Window Save is muted."
            if not sources
            else "Both images and video of Window Save are connected; connect one of them."
        )
    above = ancestors(graph, [sources[0][0]])
    starts = {node_id for node_id in above if graph[node_id]["class_type"] == START}
    if start_id not in above:
        raise ValueError(
            "What is connected to Window Save is not made from what its Window Start hands out. Connect frames of "
            "Window Start in place of your Load Image, and prompt, seed and length where they belong."
        )
    if len(starts) > 1:
        raise ValueError(
            "Window Save gets frames that come from two Window Start nodes. Let one Window Start feed the graph."
        )
    if sources[0][0] == start_id:
        raise ValueError(
            "Window Save is connected to Window Start directly; nothing in between makes a clip. If there is a "
            "sampler, it is bypassed."
        )
