"""Sliding Window Extend: a minute of video, window after window."""

import json
from pathlib import Path

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import InputImpl, io, ui

from ..model_patches.bridge.window.make import Models, WindowSettings, check_fusion
from ..model_patches.bridge.window.run import Request, run_name_fault, run_windows
from ..model_patches.sizes import num_latent_frames
from ..model_patches.window.plan import check_window, parse_prompts
from ..model_patches.window.report import report_text, timeline
from .sliding_window_inputs import (
    WINDOWS,
    drift_inputs,
    file_inputs,
    how_inputs,
    sockets_inputs,
    what_inputs,
)

ALIASES = [
    "magic141",
    "long video",
    "extend video",
    "continue video",
    "one minute",
    "sliding window",
    "infinite",
]


class SlidingWindowExtend(io.ComfyNode):
    """Wires models, start and settings to one run of windows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141SlidingWindowExtend",
            display_name="Sliding Window Extend",
            category="Magic141",
            description=(
                "Makes a long video in windows, each conditioned on the end of the one before, from a picture or as "
                "the continuation of a video or latent. Every finished window is on disk at once; queue the same "
                "workflow again after a crash or a cancel and it goes on from there. Changed prompts redo their "
                "window and the later ones only."
            ),
            search_aliases=ALIASES,
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                *sockets_inputs(),
                *what_inputs(),
                *how_inputs(),
                *drift_inputs(),
                *file_inputs(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The whole video, on disk; a continued video is its beginning.",
                ),
                io.Image.Output(display_name="last_frame", tooltip="The last frame."),
                io.Latent.Output(
                    display_name="tail",
                    tooltip="The last latent frames: with the video, what another Sliding Window Extend goes on from.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="What was made, resumed or redone and how far it drifted, as JSON. For Drift Report.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, window_length, overlap, fusion_length, fusion_overlap, prompts, run_name
    ) -> bool | str:
        try:
            if None not in (window_length, overlap):
                check_window(num_latent_frames(window_length), overlap)
            if fusion_length and fusion_overlap is not None:
                check_fusion(num_latent_frames(fusion_length), fusion_overlap, num_known_latent=overlap or 1)
            parse_prompts(prompts or "")
        except ValueError as error:
            return str(error)
        return (run_name is not None and run_name_fault(run_name)) or True

    @classmethod
    def execute(
        cls,
        model,
        encoders,
        vae,
        prompts,
        negative_prompt,
        length,
        length_in,
        window_length,
        overlap,
        width,
        height,
        fps,
        steps,
        shift,
        sampler,
        cfg,
        guidance,
        seed,
        hand_over,
        latent_anchor,
        color_anchor,
        color_match,
        first_frame_context,
        reroll_threshold,
        reroll_limit,
        turn_limit,
        fusion_length,
        fusion_overlap,
        run_name,
        codec,
        quality,
        png_sequence,
        image=None,
        video=None,
        latent=None,
        end_image=None,
    ) -> io.NodeOutput:
        settings = WindowSettings(
            width=width,
            height=height,
            window_latent=num_latent_frames(window_length),
            overlap_latent=overlap,
            hand_over=hand_over,
            negative_prompt=negative_prompt,
            steps=steps,
            shift=shift,
            sampler=sampler,
            cfg=cfg,
            guidance=guidance,
            latent_anchor=latent_anchor,
            color_anchor=color_anchor,
            color_match=color_match,
            first_frame_context=first_frame_context,
            reroll_threshold=reroll_threshold,
            reroll_limit=reroll_limit,
            turn_limit=turn_limit,
            fusion_latent=num_latent_frames(fusion_length) if fusion_length else 0,
            fusion_overlap_latent=fusion_overlap,
        )
        request = Request(
            prompts=prompts,
            length=length,
            in_windows=length_in == WINDOWS,
            fps=fps,
            seed=seed,
            run_name=run_name,
            codec=codec,
            quality=quality,
            pngs=png_sequence,
            image=image,
            video=video,
            latent=None if latent is None else latent["samples"],
            end_image=end_image,
            metadata=_metadata(cls.hidden),
        )
        outcome = run_windows(Models(model, encoders, vae), settings, request, node_id=cls.hidden.unique_id)
        return io.NodeOutput(
            InputImpl.VideoFromFile(str(outcome.video)),
            outcome.last_frame,
            {"samples": outcome.tail},
            report_text(outcome.report),
            ui={
                **_preview(outcome.video).as_dict(),
                "magic141_windows": timeline(outcome.report, fps=fps),
            },
        )


def _metadata(hidden) -> dict[str, str]:
    """Return the tags by which ComfyUI opens the workflow from the file."""
    if args.disable_metadata:
        return {}
    tags = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        tags["prompt"] = hidden.prompt
    return {name: json.dumps(value) for name, value in tags.items()}


def _preview(path: Path) -> ui.PreviewVideo:
    subfolder = path.parent.relative_to(folder_paths.get_output_directory()).as_posix()
    return ui.PreviewVideo([ui.SavedResult(path.name, subfolder, io.FolderType.output)])


NODES: list[type[io.ComfyNode]] = [SlidingWindowExtend]
