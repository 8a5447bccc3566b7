"""Window Save: takes the windows that a graph makes, and gives the video joined from them."""

from comfy_api.latest import io

from ..model_patches.bridge.window.graph_end import finish_run
from ..model_patches.bridge.window.graph_run import (
    GraphRun,
    Returned,
    WindowSocket,
    newest_segment,
    take_back,
)
from .saved_video import output_of, preview_of
from .window_inputs import INTERNAL, save_inputs


class WindowSave(io.ComfyNode):
    """Joins the finished windows. What it is connected to is copied for every window by Window Start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowSave",
            display_name="Window Save",
            category="Magic141/long video",
            description=(
                "Takes each window that your graph makes for Window Start. Give it the whole clip: it leaves out the "
                "known frames and writes the new ones. When all windows are made, it gives the whole video. Put it in "
                "place of Save Video."
            ),
            search_aliases=["magic141", "long video", "extend video", "loop", "any model", "save video"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[WindowSocket.Input("window", tooltip="From Window Start."), *save_inputs(lazy=True)],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The whole video, on disk; a continued video is its beginning.",
                ),
                io.Image.Output(display_name="last_frame", tooltip="The last frame."),
                io.Latent.Output(
                    display_name="tail",
                    tooltip="The latent of the last window, if latent was connected: with the video, what another "
                    "Window Start continues.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What was made, resumed or redone and how far it drifted, as JSON. For Drift Report.",
                ),
            ],
        )

    @classmethod
    def check_lazy_status(cls, **_) -> list[str]:
        """Ask for no input but the window: the copies of the graph have made all clips."""
        return []

    @classmethod
    def execute(cls, window, **_) -> io.NodeOutput:
        if not isinstance(window, GraphRun):
            raise ValueError("window is not the output window of Window Start. Connect that output.")
        return output_of(finish_run(window))


class WindowWrite(io.ComfyNode):
    """Takes the place of Window Save in the copies for one window."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowWrite",
            display_name="Window Write (internal)",
            category=INTERNAL,
            description="Put into the running graph by Window Start. Not for use by hand.",
            is_dev_only=True,
            inputs=[WindowSocket.Input("window", tooltip="The run."), *save_inputs(lazy=False)],
            outputs=[io.AnyType.Output(display_name="token", tooltip="The window is written.")],
        )

    @classmethod
    def execute(cls, window, images=None, video=None, latent=None, **_) -> io.NodeOutput:
        take_back(window, returned_of(images, video, None if latent is None else latent["samples"]))
        segment = newest_segment(window)
        return io.NodeOutput(
            window.run.num_done, ui=None if segment is None else preview_of(segment).as_dict()
        )


def returned_of(images, video, latent) -> Returned:
    """Return what the graph made in the form that the run takes: pictures, or a VIDEO with its sound.

    Raises:
        ValueError: the graph made neither.
    """
    if images is not None:
        return Returned(images, latent)
    if video is None:
        raise ValueError("Window Save was given neither images nor a video. Connect what your graph makes.")
    parts = video.get_components()
    if parts.audio is None:
        return Returned(parts.images, latent, fps=float(parts.frame_rate))
    sound, rate = parts.audio["waveform"][0], int(parts.audio["sample_rate"])
    return Returned(parts.images, latent, sound, rate, float(parts.frame_rate))
