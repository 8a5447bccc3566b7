"""Window Start: hands out what each window of a long video is made from; any graph can make it."""

from functools import partial

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ..model_patches.bridge.graph_identity import describe_unknown
from ..model_patches.bridge.window.graph_end import leave_unfinished
from ..model_patches.bridge.window.graph_run import begin_run, show_progress
from ..model_patches.bridge.window.graph_start import ANEW, KEEP, Settings, StartSettings, read_beginning
from ..model_patches.bridge.window.graph_walk import links_of
from ..model_patches.bridge.window.series import (
    Body,
    body_identity,
    find_body,
    first_next,
    read_graph,
)
from ..model_patches.bridge.window.series_end import watch_end
from ..model_patches.store.names import name_fault
from ..model_patches.window.clips import ClipSizes
from ..model_patches.window.directions import read_directions
from .saved_video import workflow_tags
from .video_inputs import (
    check_story,
    fps_input,
    length_inputs,
    negative_prompt_input,
    prompts_input,
    run_name_input,
    seed_input,
    size_inputs,
)
from .window_inputs import save_settings, window_outputs


class WindowStart(io.ComfyNode):
    """Wires the start and the settings of a long video to the series of its windows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowStart",
            display_name="Window Start",
            category="Magic141/long video",
            description=(
                "Makes a long video out of any image-to-video graph: put it in place of Load Image, and Window Save "
                "in place of Save Video. Run once: the nodes between the two make one window after the other, each "
                "from the end of the one before. Every finished window is on disk at once; queue the same workflow "
                "again after a crash or a cancel and it continues from there."
            ),
            search_aliases=[
                "magic141",
                "long video",
                "extend video",
                "loop",
                "any model",
                "wan",
                "one minute",
            ],
            not_idempotent=True,
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[*begin_inputs(), *story_inputs(), *window_inputs(), *run_inputs()],
            outputs=window_outputs(),
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> float:
        """Let the node run every time: the finished windows and the rest of the graph may have changed."""
        return float("nan")

    @classmethod
    def validate_inputs(
        cls, window_length=None, known_frames=None, prompts=None, negative_prompt=None, run_name=None
    ) -> bool | str:
        if None not in (window_length, known_frames):
            ClipSizes(window_length, known_frames)
        check_story(prompts or "", negative_prompt or "")
        return (run_name is not None and name_fault(run_name, "a run")) or True

    @classmethod
    def execute(cls, image=None, video=None, latent=None, **widgets) -> io.NodeOutput:
        start = StartSettings(**widgets)
        dynprompt = cls.hidden.dynprompt
        graph = read_graph(dynprompt)
        body = find_body(graph, dynprompt, cls.hidden.unique_id)
        check_end_is_used(body, widgets["prompts"])
        identity = body_identity(graph, body)
        settings = Settings(start, save_settings(body.save_inputs), identity.hash)
        material = read_beginning(start, image=image, video=video)
        run = begin_run(
            settings, material, metadata=workflow_tags(cls.hidden), notes=describe_unknown(identity)
        )
        run.latent, run.node_id = latent, cls.hidden.unique_id
        blocked = [ExecutionBlocker(None)] * (len(window_outputs()) - 1)
        show_progress(run)
        if run.window is None:
            return io.NodeOutput(run, *blocked)
        watch_end(run, partial(leave_unfinished, run))
        expansion, finished = first_next(body, run)
        return io.NodeOutput(finished, *blocked, expand=expansion)


def check_end_is_used(body: Body, prompts: str) -> None:
    """Refuse end pictures that the graph does not use.

    Raises:
        ValueError: nothing is connected to the output.
    """
    lines = [line for (_, word), line in read_directions(prompts).lines.items() if word == "end"]
    end_image = (body.start_id, len(window_outputs()) - 1)
    if lines and not any(end_image in links_of(node) for node in body.nodes.values()):
        raise ValueError(
            f"Prompt line {lines[0]} gives a window an end picture, but nothing takes it: connect the output end_image "
            "of Window Start to a node that makes a clip from a first and a last frame, or remove the line."
        )


def begin_inputs() -> list:
    """Return what the video begins with."""
    return [
        io.Image.Input("image", optional=True, tooltip="The first frame. Cropped to width x height."),
        io.Video.Input(
            "video",
            optional=True,
            tooltip="A video to continue, with its sound, in place of an image. It becomes the beginning of the "
            "result, at its own size.",
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            tooltip="Handed to the first window as latent, for graphs that continue latents, with the video they "
            "belong to.",
        ),
    ]


def story_inputs() -> list:
    """Return what happens and for how long."""
    return [
        prompts_input(),
        negative_prompt_input("Given to every window at the output of the same name."),
        *length_inputs(),
    ]


def window_inputs() -> list:
    """Return what a window is."""
    return [
        io.Int.Input(
            "window_length",
            default=81,
            min=2,
            max=4097,
            tooltip="Frames that your graph makes at once: what its model was trained for. Wan 81, HunyuanVideo 1.5 "
            "121. Connect the output length to the node that makes the empty clip.",
        ),
        io.Int.Input(
            "known_frames",
            default=1,
            min=1,
            max=257,
            step=4,
            tooltip="Last frames that the next window is given: 1, 5, 9 ... One fits every image-to-video model; more "
            "carry motion over, for models that take several (Wan 2.2).",
        ),
        *size_inputs(832, 480),
        fps_input(16.0, "Frames a second that the model was trained for. Wan 16, HunyuanVideo 24."),
        seed_input(),
    ]


def run_inputs() -> list:
    """Return where the run is stored and what makes it begin anew."""
    return [
        run_name_input("graph"),
        io.Combo.Input(
            "when_graph_changes",
            options=[ANEW, KEEP],
            default=ANEW,
            advanced=True,
            tooltip="When a node or a value between the two nodes has changed: make all windows anew in a folder of "
            "their own, or keep the finished windows and continue with the new graph.",
        ),
    ]
