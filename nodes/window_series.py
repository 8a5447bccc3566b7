"""The nodes that Window Start puts into the running graph: one hands out a window, one starts the next."""

from comfy_api.latest import io

from ..model_patches.bridge.window.graph_run import WindowSocket, hand_out, show_progress
from ..model_patches.bridge.window.series import forget_outputs, one_window, with_values
from ..model_patches.bridge.window.series_end import forget_end
from .window_inputs import INTERNAL, window_outputs


class WindowFrames(io.ComfyNode):
    """Takes the place of Window Start in the copies for one window."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowFrames",
            display_name="Window Frames (internal)",
            category=INTERNAL,
            description="Put into the running graph by Window Start. Not for use by hand.",
            is_dev_only=True,
            inputs=[WindowSocket.Input("series", tooltip="The run.")],
            outputs=window_outputs(),
        )

    @classmethod
    def execute(cls, series) -> io.NodeOutput:
        values = hand_out(series)
        return io.NodeOutput(series, *(values[each.display_name] for each in window_outputs()[1:]))


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
            forget_end(run)
            return io.NodeOutput(run)
        expansion, following = one_window(with_values(part, outer) if outer else part, run)
        return io.NodeOutput(following, expand=expansion)
