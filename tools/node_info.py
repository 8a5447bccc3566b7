"""The definitions of the pack's nodes, independent of the models on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

from .host import use_comfyui


def node_info() -> dict[str, dict]:
    """Return /object_info of the nodes that artists see, by node id, as with empty model folders."""
    use_comfyui()
    from .. import nodes as pack

    with no_models():
        schemas = {
            node.GET_SCHEMA().node_id: node for node in pack.NODES if not node.GET_SCHEMA().is_dev_only
        }
        infos = {node_id: node.GET_NODE_INFO_V1() for node_id, node in schemas.items()}
    return dict(sorted(infos.items()))


@contextmanager
def no_models() -> Iterator[None]:
    """Make every model dropdown empty, so that no file of this machine gets into a page."""
    import folder_paths  # pyright: ignore[reportMissingImports]

    registered, models = dict(folder_paths.folder_names_and_paths), folder_paths.models_dir
    cached = dict(folder_paths.filename_list_cache)
    try:
        folder_paths.filename_list_cache.clear()
        folder_paths.models_dir = "models"
        for category, (_, suffixes) in registered.items():
            folder_paths.folder_names_and_paths[category] = ([], suffixes)
        yield
    finally:
        folder_paths.folder_names_and_paths.update(registered)
        folder_paths.models_dir = models
        folder_paths.filename_list_cache.update(cached)


def inputs_of(info: dict) -> Iterator[tuple[str, list, bool]]:
    """Yield (name, spec, required) of every input in the order of the node."""
    for section in ("required", "optional"):
        for name in info["input_order"].get(section, []):
            yield name, info["input"][section][name], section == "required"


def options_of(spec: list) -> dict:
    """Return the options of a spec."""
    return spec[1] if len(spec) > 1 else {}
