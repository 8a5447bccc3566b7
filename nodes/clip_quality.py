"""Clip Quality: how good a video is, in numbers, a picture and a sentence."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.judge.clips import open_clip
from ..model_patches.bridge.judge.models import ClipInputs, Models
from ..model_patches.bridge.judge.run import judge_clip
from ..model_patches.bridge.progress import host_progress, stages
from ..model_patches.judge.report import radar, report_json, report_text, standout
from ..model_patches.plots.quality import plot_quality


class ClipQuality(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141ClipQuality",
            display_name="Clip Quality",
            category="Magic141/measure",
            description="Measures how good a video is: flicker, jumps, standstill, sharpness, color drift and, where "
            "their model files are there, VBench's measures (subject, background, motion, looks). Connect a second "
            "clip to compare two.",
            search_aliases=[
                "magic141",
                "vbench",
                "video quality",
                "metrics",
                "compare videos",
                "lpips",
                "psnr",
            ],
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "clip", [io.Video, io.Image], tooltip="The video to judge, or its frames."
                ),
                io.MultiType.Input(
                    "other_clip",
                    [io.Video, io.Image],
                    optional=True,
                    tooltip="A second video to compare with: the first is A, this one is B.",
                ),
                io.Image.Input(
                    "start_image",
                    optional=True,
                    tooltip="The picture that the video was made from. Adds how well the video keeps to it.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What the video should show. Adds how well its frames fit these words.",
                ),
                io.Float.Input(
                    "fps",
                    default=24.0,
                    min=1.0,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames a second of an IMAGE batch. A VIDEO has its own.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="report", tooltip="What stands out, and every measure in a table."
                ),
                io.Image.Output(
                    display_name="plot", tooltip="A radar of the measures, and curves over time."
                ),
                io.String.Output(display_name="json", tooltip="All numbers and curves."),
                io.String.Output(display_name="summary", tooltip="What stands out, in one sentence."),
            ],
        )

    @classmethod
    def execute(cls, clip, fps, prompt="", other_clip=None, start_image=None) -> io.NodeOutput:
        models, inputs, judged = Models(), ClipInputs(start_image, prompt), []
        with stages() as on_stage:
            for each in [clip] if other_clip is None else [clip, other_clip]:
                on_stage("looking for models")
                stage = f"judging {'AB'[len(judged)]}" if other_clip is not None else "judging"
                judged.append(judge_clip(open_clip(each, fps), inputs, models, progress=host_progress(stage)))
        text = report_text(*judged)
        plot = plot_quality(
            radar(judged), [each.curves for each in judged], seconds=max(j.frames / j.fps for j in judged)
        )
        return io.NodeOutput(text, plot, report_json(*judged), standout(*judged), ui=ui.PreviewText(text))
