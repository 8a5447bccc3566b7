"""The outputs of nodes that write a video: the workflow in its tags, a preview on the node, no second copy."""

import contextlib
import json
import os
from pathlib import Path

import av
import folder_paths
from comfy.cli_args import args
from comfy_api.latest import InputImpl, Types, io, ui

from ..model_patches.bridge.window.run import Outcome
from ..model_patches.window.report import report_text


class FinishedVideo(InputImpl.VideoFromFile):
    """A video in the output folder. Saving it unchanged adds a second name to the file instead of a copy."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def save_to(
        self, path, format=Types.VideoContainer.AUTO, codec=Types.VideoCodec.AUTO, metadata=None, **settings
    ) -> None:
        changed = any(value is not None for value in settings.values())
        auto = format == Types.VideoContainer.AUTO and codec == Types.VideoCodec.AUTO
        if auto and not changed and self._is_saved_as(path, metadata):
            with contextlib.suppress(OSError):  # another disk, or one without hard links
                os.link(self.path, path)
                return
        super().save_to(path, format=format, codec=codec, metadata=metadata, **settings)

    def _is_saved_as(self, path: object, metadata: dict | None) -> bool:
        """Return whether the file on disk has these tags, and the suffix of this path."""
        if not isinstance(path, str) or Path(path).suffix != self.path.suffix:
            return False
        with av.open(str(self.path)) as container:
            tags = container.metadata
        return all(tags.get(name) == json.dumps(value) for name, value in (metadata or {}).items())


def workflow_tags(hidden) -> dict[str, str]:
    """Return the tags by which ComfyUI opens the workflow from the file."""
    if args.disable_metadata:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        tags["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}


def output_of(outcome: Outcome) -> io.NodeOutput:
    """Return the outputs of a node that made a long video, and what the page shows of it."""
    return io.NodeOutput(
        FinishedVideo(outcome.video),
        outcome.last_frame,
        outcome.tail,
        report_text(outcome.report),
        ui={
            **preview_of(outcome.video).as_dict(),
            "magic141_windows": outcome.cards,
            "magic141_kept": [outcome.report["num_kept"]],
        },
    )


def preview_of(path: Path) -> ui.PreviewVideo:
    """Return the preview of a video in the output folder."""
    subfolder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return ui.PreviewVideo([ui.SavedResult(path.name, subfolder, io.FolderType.output)])
