"""Sliding Window Extend: a minute of video, window after window."""

import logging
from typing import Any

from comfy_api.latest import io

from ..model_patches.bridge.graph_identity import describe_unknown, graph_identity, running_graph
from ..model_patches.bridge.window.finished import finished_videos
from ..model_patches.bridge.window.make import Models
from ..model_patches.bridge.window.run import Caller, run_windows
from ..model_patches.bridge.window.start import Sources
from ..model_patches.sizes import num_latent_frames
from ..model_patches.store.names import name_fault
from ..model_patches.window.plan import check_window
from ..model_patches.window.settings import WindowSettings
from .old_inputs import describe_old_inputs
from .saved_video import output_of, workflow_tags
from .sliding_window_inputs import (
    OLD_CHOICES,
    file_inputs,
    memory_inputs,
    sampling_inputs,
    seam_inputs,
    start_inputs,
    story_inputs,
    window_inputs,
)
from .video_inputs import check_story

ALIASES = [
    "magic141",
    "long video",
    "extend video",
    "continue video",
    "one minute",
    "sliding window",
    "infinite",
]
MODELS = ("model", "encoders", "vae")


class SlidingWindowExtend(io.ComfyNode):
    """Wires models, start and settings to one run of windows."""

    OLD_CHOICES = OLD_CHOICES

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141SlidingWindowExtend",
            display_name="Sliding Window Extend",
            category="Magic141/long video",
            description="Makes a long video in windows, each continuing from the end of the one before. It starts "
            "from a picture, or continues a video or latent. Each finished window is saved at once: after a crash or "
            "a cancel, run the same workflow again and it continues from there. If the prompt or seed of a "
            "window changes, it and the later ones are made again; their older takes are kept and found if you change "
            "it back.",
            search_aliases=ALIASES,
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
            inputs=[
                *start_inputs(),
                *story_inputs(),
                *window_inputs(),
                *sampling_inputs(),
                *seam_inputs(),
                *file_inputs(),
                *memory_inputs(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The whole video, as a file on disk. A video you continue is its beginning.",
                ),
                io.Image.Output(display_name="last_frame", tooltip="The last frame of the video."),
                io.Latent.Output(
                    display_name="tail",
                    tooltip="The last latent frames. Together with the video, another Sliding Window Extend can "
                    "continue from them.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What was made, resumed or made again, and how far the video drifted, as JSON. For Drift "
                    "Report.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        window_length=None,
        overlap=None,
        prompts=None,
        negative_prompt=None,
        run_name=None,
        hand_over=None,  # named so that the host lets OLD_CHOICES pass
    ) -> bool | str:
        if None not in (window_length, overlap):
            check_window(num_latent_frames(window_length), overlap)
        check_story(prompts or "", negative_prompt or "")
        return (run_name is not None and name_fault(run_name, "a run")) or True

    @classmethod
    def fingerprint_inputs(cls, run_name=None, **_) -> int:
        """Let the node run again when the finished video was moved or deleted."""
        return finished_videos.times_lost(run_name)

    @classmethod
    def execute(
        cls, model, encoders, vae, image=None, video=None, latent=None, end_image=None, **widgets
    ) -> io.NodeOutput:
        caller = _caller(cls)
        settings = WindowSettings(**{name: _choice_now(name, value) for name, value in widgets.items()})
        sources = Sources(image, video, None if latent is None else latent["samples"], end_image)
        outcome = run_windows(Models(model, encoders, vae), settings, sources, caller)
        finished_videos.add(settings.run_name, outcome.video)
        return output_of(outcome)


def _choice_now(name: str, value: Any) -> Any:
    """Return a widget's value, with a choice of older versions replaced by the present one."""
    old = OLD_CHOICES.get(name, {})
    return old[value] if isinstance(value, str) and value in old else value


def _caller(node: type[io.ComfyNode]) -> Caller:
    """Return what the run needs to know about its graph."""
    hidden = node.hidden
    inputs = hidden.dynprompt.get_node(hidden.unique_id)["inputs"]
    identity = graph_identity(running_graph(hidden.dynprompt), hidden.unique_id, MODELS)
    notes = [*describe_old_inputs(node, inputs), *describe_unknown(identity)]
    for note in notes:
        logging.warning("Magic141: %s", note)
    return Caller(hidden.unique_id, identity.hash, workflow_tags(hidden), tuple(notes))
