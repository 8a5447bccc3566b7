"""Quantize File: a checkpoint to a smaller checkpoint, without loading it."""

import re
from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..model_patches.bridge.encoders.folders import model_files
from ..model_patches.bridge.int8.detect import find_layout
from ..model_patches.bridge.int8.model import saved_path
from ..model_patches.bridge.progress import host_progress
from ..model_patches.dit.shards import read_model_header
from ..model_patches.int8.choice import plan_file
from ..model_patches.int8.file import only_translates, quantize_file
from .int8_inputs import ALL_LINEAR_INPUT, GRANULARITY_INPUT, KEEP_INPUTS, MODE_INPUT, make_plan
from .old_inputs import describe_old_inputs

#: How the list marks text encoders.
TEXT_ENCODERS = "text_encoders/"
LAYOUTS = {
    "ComfyUI": "native",
    "quanto, diffusers names": "quanto_diffusers",
    "quanto, authors' names": "quanto_authors",
}


class QuantizeFile(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141QuantizeFile",
            display_name="Quantize File",
            category="Magic141/quantize",
            description=(
                "Writes a quantized copy of any diffusion model that ComfyUI detects (HunyuanVideo, Wan, Flux, "
                "Qwen-Image, LTX, SD3 and others) or of a text encoder (umt5, T5, Qwen2.5-VL, LLaMA), a few rows at a "
                "time: memory stays small however large the file. The copy opens in stock Load Diffusion Model or Load "
                "CLIP. The Linear layers of the model's repeated blocks are quantized, the rest stays as it is. The "
                "header of the copy records what it was made from."
            ),
            search_aliases=["quantize", "int8", "quanto", "convert checkpoint", "save int8", "magic141"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=[
                        *model_files("diffusion_models"),
                        *(TEXT_ENCODERS + name for name in model_files("text_encoders")),
                    ],
                    tooltip=(
                        "The checkpoint in models/diffusion_models, or a text encoder in models/text_encoders: "
                        "safetensors or .pth, in bf16, fp16, fp32 or fp8_scaled (a text encoder also in plain fp8). Of "
                        "a model in several parts choose any part."
                    ),
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip=(
                        "Name of the new file, which is saved with the models of the same kind. Empty: the old name "
                        "with _int8 or _int4 added."
                    ),
                ),
                MODE_INPUT,
                GRANULARITY_INPUT,
                io.Combo.Input(
                    "layout",
                    advanced=True,
                    options=list(LAYOUTS),
                    tooltip=(
                        "ComfyUI's own keys, or optimum-quanto's (weight-only int8, HunyuanVideo only) for diffusers "
                        "or for the authors' code. A file in quanto's keys is translated to ComfyUI's."
                    ),
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of that name."),
                ALL_LINEAR_INPUT,
                io.Boolean.Input(
                    "dry_run",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Write nothing: the report lists what would be quantized and the bytes it would save. "
                        "Weights are not read."
                    ),
                ),
                *KEEP_INPUTS,
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            outputs=[
                io.String.Output("file_name", display_name="file_name", tooltip="The new file's name."),
                io.String.Output(
                    "report", display_name="report", tooltip="Layers quantized, sizes before and after."
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        model_name=None,
        save_as=None,
        mode=None,
        granularity=None,
        layout=None,
        overwrite=False,
        dry_run=False,
    ) -> bool | str:
        folder, name = folder_and_name(model_name or "")
        if model_name is not None and folder_paths.get_full_path(folder, name) is None:
            return f"{name} is not in models/{folder}. Choose a file from the list."
        plan = make_plan(mode, granularity)
        if model_name is not None and save_as is not None and not dry_run:
            target = save_as or default_name(name, plan.mode, layout)
            saved_path(target, overwrite=bool(overwrite), folder=folder)
        return True

    @classmethod
    def execute(
        cls,
        model_name,
        save_as,
        mode,
        granularity,
        layout,
        overwrite,
        all_linear,
        dry_run=False,
        keep_worst=0,
        ranking="",
    ) -> io.NodeOutput:
        plan = make_plan(mode, granularity, all_linear=all_linear, keep=(keep_worst, ranking))
        folder, model_name = folder_and_name(model_name)
        name = save_as or default_name(model_name, plan.mode, layout)
        source = folder_paths.get_full_path_or_raise(folder, model_name)
        header = read_model_header(source)
        contents = None if only_translates(header, LAYOUTS[layout]) else find_layout(header, plan)
        if dry_run:
            line = (
                plan_file(header, contents, plan).text if contents else "This file would only be translated."
            )
        else:
            target = saved_path(name, overwrite=overwrite, folder=folder)
            name = target.name
            line = quantize_file(
                source,
                target,
                plan,
                contents=contents,
                layout=LAYOUTS[layout],
                overwrite=overwrite,
                progress=host_progress("quantizing and writing"),
            ).line
        text = "\n".join([line, *describe_old_inputs(cls)])
        return io.NodeOutput(name, text, ui=ui.PreviewText(text))


def folder_and_name(model_name: str) -> tuple[str, str]:
    """Return the host's folder of a name from the list, and the name inside that folder."""
    if model_name.startswith(TEXT_ENCODERS) and not folder_paths.get_full_path(
        "diffusion_models", model_name
    ):
        return "text_encoders", model_name.removeprefix(TEXT_ENCODERS)
    return "diffusion_models", model_name


def default_name(model_name: str, mode: str, layout: str | None) -> str:
    bits = "int4" if mode == "int4" else "int8"
    quanto = "" if layout in (None, "ComfyUI") else "_quanto"
    stem = re.sub(r"-\d+-of-\d+$", "", Path(model_name).stem)  # of a model in parts
    return f"{stem}_{bits}{quanto}.safetensors"
