"""Drift Report: how far a long video moved away from its beginning."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.window.drift import clip_vision_features, measure_video, vlm_features
from ..model_patches.plots.drift import plot_drift
from ..model_patches.window.report import report_text


class DriftReport(io.ComfyNode):
    """Wires a video to its measures and their plot."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141DriftReport",
            display_name="Drift Report",
            category="Magic141/long video",
            description="Measures a long video window by window: color shift (CIE delta E), brightness, sharpness, "
            "motion at the seams and, if a CLIP_VISION or encoders are connected, likeness to the first frame.",
            search_aliases=["magic141", "drift", "color shift", "colour shift", "seam", "quality report"],
            inputs=[
                io.Video.Input("video", tooltip="Any video; one from Sliding Window Extend works best."),
                io.Int.Input(
                    "window_length",
                    default=24,
                    min=1,
                    max=100000,
                    tooltip="Frames per window, used when no report is connected.",
                ),
                io.String.Input(
                    "report",
                    optional=True,
                    force_input=True,
                    tooltip="The report of Sliding Window Extend, which says where the seams are.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Measures likeness to the first frame with this vision model.",
                ),
                EncodersSocket.Input(
                    "encoders",
                    optional=True,
                    tooltip="Measures likeness to the first frame with the VLM, if no CLIP_VISION is connected.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="plot",
                    tooltip="A verdict, and all measures over the windows. In the green band nobody sees a "
                    "difference.",
                ),
                io.String.Output(
                    display_name="json", tooltip="The verdict, and the numbers behind the plot."
                ),
            ],
        )

    @classmethod
    def execute(cls, video, window_length, report="", clip_vision=None, encoders=None) -> io.NodeOutput:
        features = None
        if clip_vision is not None:
            features = clip_vision_features(clip_vision)
        elif encoders is not None:
            features = vlm_features(encoders)
        measured = measure_video(video, report=report, window_frames=window_length, features=features)
        return io.NodeOutput(plot_drift(measured["windows"], measured["verdict"]), report_text(measured))
