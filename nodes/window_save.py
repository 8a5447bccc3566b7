"""Window Save: takes the windows that a graph makes, and gives the video joined from them."""

from comfy_api.latest import InputImpl, io

from ..model_patches.bridge.window.graph_run import (
    GraphRun,
    Returned,
    WindowSocket,
    finish_run,
    newest_segment,
    take_back,
)
from ..model_patches.bridge.window.graph_start import SaveSettings
from ..model_patches.store.video_sink import CODECS
from ..model_patches.window.report import report_text, timeline
from .sliding_window import _preview
from .window_series import INTERNAL


class WindowSave(io.ComfyNode):
    """Joins the finished windows. What it is connected to is copied for every window by Window Start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141WindowSave",
            display_name="Window Save",
            category="Magic141",
            description=(
                "The end of a window that any graph makes, to Window Start's beginning. Give it the whole clip: it "
                "leaves out the known frames, writes the new ones, and when the video is long enough it gives the "
                "video. Put it in place of Save Video."
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
                    "Window Start goes on from.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What was made, resumed or redone and how far it drifted, as JSON. For Drift Report.",
                ),
            ],
        )

    @classmethod
    def check_lazy_status(cls, **_) -> list[str]:
        """Ask for nothing but the window: the copies of the graph have made all clips."""
        return []

    @classmethod
    def execute(cls, window, **_) -> io.NodeOutput:
        if not isinstance(window, GraphRun):
            raise ValueError("window is not the output window of Window Start. Connect that output.")
        outcome = finish_run(window)
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(outcome.video)),
            outcome.last_frame,
            outcome.latent,
            report_text(outcome.report),
            ui={
                **_preview(outcome.video).as_dict(),
                "magic141_windows": timeline(outcome.report, fps=window.settings.start.fps),
            },
        )


class WindowWrite(io.ComfyNode):
    """Stands for Window Save in the copies of one window."""

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
        return io.NodeOutput(window.run.num_done, ui=None if segment is None else _preview(segment))


def returned_of(images, video, latent) -> Returned:
    """Return what the graph made as the run takes it: pictures, or a VIDEO with its sound.

    Raises:
        ValueError: neither came.
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


def save_settings(inputs: dict) -> SaveSettings:
    """Return Window Save's widgets as the run knows them, read before it runs.

    Raises:
        ValueError: one of them is not set on the node.
    """
    names = list(SaveSettings.__dataclass_fields__)
    if linked := [name for name in names if isinstance(inputs.get(name), list)]:
        raise ValueError(
            f"{linked[0]} of Window Save is connected to another node; it must be known before the first window is "
            "made. Set it on Window Save itself."
        )
    return SaveSettings(**{name: inputs[name] for name in names if name in inputs})


def save_inputs(*, lazy: bool) -> list:
    """Return what comes back of a window, and how it is judged and written."""
    return [
        io.Image.Input(
            "images",
            optional=True,
            lazy=lazy,
            tooltip="The whole clip that your graph made, known frames included: what VAE Decode gives.",
        ),
        io.Video.Input(
            "video",
            optional=True,
            lazy=lazy,
            tooltip="The whole clip with its sound, in place of images, for models that make sound.",
        ),
        io.Latent.Input(
            "latent",
            optional=True,
            lazy=lazy,
            tooltip="The latent of the clip, if the next window needs it: Window Start gives it back as latent.",
        ),
        io.Float.Input(
            "color_anchor",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            tooltip="Pull every color of a window back to where it was in the first window. For one continuous scene; "
            "leave 0 where the light changes.",
        ),
        io.Float.Input(
            "seam_limit",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            advanced=True,
            tooltip="Make a window again with another seed where its seam moves more than this many times too much or "
            "too little (2 is where it starts to be seen). 0: never.",
        ),
        io.Float.Input(
            "turn_limit",
            default=0.0,
            min=0.0,
            max=180.0,
            step=1.0,
            advanced=True,
            tooltip="Make a window again with another seed where the motion of the picture has turned by more degrees "
            "than this since its prompt began. 20 to 30 keeps a course. 0: never.",
        ),
        io.Float.Input(
            "flash_limit",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.5,
            advanced=True,
            tooltip="Make a window again with another seed where its first new frames are brighter or darker than the "
            "frames before by more percent than this. 3 is where a flash begins to be seen. 0: never.",
        ),
        io.Int.Input(
            "reroll_limit",
            default=2,
            min=0,
            max=20,
            advanced=True,
            tooltip="How often a window may be made again. The best one is kept.",
        ),
        io.Int.Input(
            "drop_new",
            default=0,
            min=0,
            max=256,
            advanced=True,
            tooltip="Leave out this many new frames at the beginning of every window that follows another, where a "
            "model needs some frames to settle.",
        ),
        io.Int.Input(
            "blend",
            default=0,
            min=0,
            max=256,
            advanced=True,
            tooltip="Fade over this many known frames from the window before to what the graph made of them, where it "
            "returns them changed. At most known_frames of Window Start.",
        ),
        io.Combo.Input(
            "codec", options=list(CODECS), default="h264", tooltip="Video codec. h264 plays everywhere."
        ),
        io.Int.Input(
            "quality",
            default=17,
            min=0,
            max=51,
            tooltip="Constant rate factor: lower is better and larger. Ignored by lossless codecs.",
        ),
    ]


NODES: list[type[io.ComfyNode]] = [WindowSave, WindowWrite]
