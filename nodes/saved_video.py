"""What nodes that write a video add to it: the workflow in its tags, and a preview on the node."""

import json
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui


def workflow_tags(hidden) -> dict[str, str]:
    """Return the tags by which ComfyUI opens the workflow from the file."""
    if args.disable_metadata:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        tags["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}


def preview_of(path: Path) -> ui.PreviewVideo:
    """Return what shows a video of the output folder on a node."""
    subfolder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return ui.PreviewVideo([ui.SavedResult(path.name, subfolder, io.FolderType.output)])
