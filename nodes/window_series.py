"""The nodes that Window Start puts into the running graph: hand a window out, take it back, start the next one."""

from dataclasses import fields

from comfy_api.latest import io

from ..model_patches.bridge.window.graph_run import HandedOut, WindowSocket, hand_out, show_progress
from ..model_patches.bridge.window.series import forget_outputs, one_window, with_values

INTERNAL = "Magic141/internal"


def handed_out_outputs() -> list:
    """Return the outputs of Window Start; behind the first they are the fields of ``HandedOut``."""
    outputs = [
        WindowSocket.Output(display_name="window", tooltip="For Window Save and Window Schedule."),
        io.Image.Output(
            display_name="frames",
            tooltip="The frames this window begins with: the start picture, then the end of what is finished. "
            "Connect it in place of your start image.",
        ),
        io.Image.Output(
            display_name="first_frame",
            tooltip="The first frame of the whole video, in every window: for anchors and CLIP vision.",
        ),
        io.String.Output(display_name="prompt", tooltip="The prompt of this window."),
        io.Int.Output(display_name="seed", tooltip="The seed of this window, for the sampler."),
        io.Int.Output(display_name="length", tooltip="Frames to make, the known ones included."),
        io.Int.Output(display_name="width", tooltip="Width of the video in pixels."),
        io.Int.Output(display_name="height", tooltip="Height of the video in pixels."),
        io.Int.Output(display_name="index", tooltip="Number of this window; the first is 0."),
        io.Boolean.Output(display_name="is_first", tooltip="Whether this is the first window."),
        io.Latent.Output(
            display_name="latent",
            tooltip="The latent of the window before, where Window Save is given one; nothing in the first window.",
        ),
        io.String.Output(display_name="negative_prompt", tooltip="The negative prompt."),
        io.Float.Output(display_name="fps", tooltip="Frames a second."),
    ]
    assert [output.display_name for output in outputs[1:]] == [part.name for part in fields(HandedOut)]
    return outputs


class WindowFrames(io.ComfyNode):
    """Stands for Window Start in the copies of one window."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowFrames",
            display_name="Window Frames (internal)",
            category=INTERNAL,
            description="Put into the running graph by Window Start. Not for use by hand.",
            is_dev_only=True,
            inputs=[WindowSocket.Input("series", tooltip="The run.")],
            outputs=handed_out_outputs(),
        )

    @classmethod
    def execute(cls, series) -> io.NodeOutput:
        handed_out = hand_out(series)
        return io.NodeOutput(series, *vars(handed_out).values())


class WindowNext(io.ComfyNode):
    """Starts the next window, once the one before is written."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowNext",
            display_name="Window Next (internal)",
            category=INTERNAL,
            description="Put into the running graph by Window Start. Not for use by hand.",
            is_dev_only=True,
            is_input_list=True,
            accept_all_inputs=True,
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                WindowSocket.Input("series", tooltip="The run."),
                io.AnyType.Input("body", tooltip="What makes a window."),
                io.AnyType.Input("token", optional=True, tooltip="The window before is written."),
            ],
            outputs=[WindowSocket.Output(display_name="window", tooltip="The run, all windows finished.")],
        )

    @classmethod
    def execute(cls, series, body, token=None, **outer) -> io.NodeOutput:
        run, part = series[0], body[0]
        forget_outputs(cls.hidden.dynprompt, cls.hidden.unique_id)
        show_progress(run)
        if run.window is None:
            return io.NodeOutput(run)
        expansion, following = one_window(with_values(part, outer) if outer else part, run)
        return io.NodeOutput(following, expand=expansion)


NODES: list[type[io.ComfyNode]] = [WindowFrames, WindowNext]
