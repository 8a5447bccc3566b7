"""Quantize File: a checkpoint to a smaller checkpoint, without loading it."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..model_patches.bridge.encoders.folders import model_files
from ..model_patches.bridge.int8.model import saved_path
from ..model_patches.bridge.progress import host_progress
from ..model_patches.int8.file import quantize_file
from .int8_inputs import ALL_LINEAR_INPUT, GRANULARITY_INPUT, MODE_INPUT, make_plan
from .old_inputs import ignored_inputs

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
            category="Magic141",
            description=(
                "Writes a quantized copy of a checkpoint, a few rows at a time: memory stays small however large the "
                "file. The copy opens in stock Load Diffusion Model and in Load Magic141 Model. A file that "
                "optimum-quanto quantized elsewhere is translated. Where the copy comes from stands in its header."
            ),
            search_aliases=["quantize", "int8", "quanto", "convert checkpoint", "save int8", "magic141"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_files("diffusion_models"),
                    tooltip="The checkpoint in models/diffusion_models: safetensors or .pth, bf16, fp16 or fp32.",
                ),
                io.String.Input(
                    "save_as",
                    default="",
                    tooltip="Name of the new file in models/diffusion_models; empty: the old name with _int8 or _int4.",
                ),
                MODE_INPUT,
                GRANULARITY_INPUT,
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    tooltip=(
                        "ComfyUI's own keys, or optimum-quanto's (weight-only int8) for diffusers or for the authors' "
                        "code."
                    ),
                ),
                io.Boolean.Input("overwrite", default=False, tooltip="Replace a file of that name."),
                ALL_LINEAR_INPUT,
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
    ) -> bool | str:
        if model_name is not None and folder_paths.get_full_path("diffusion_models", model_name) is None:
            return f"{model_name} is not in models/diffusion_models. Choose a file from the list."
        try:
            plan = make_plan(mode, granularity)
            if model_name is not None and save_as is not None:
                saved_path(save_as or default_name(model_name, plan.mode, layout), overwrite=bool(overwrite))
        except (ValueError, ImportError, OSError) as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, model_name, save_as, mode, granularity, layout, overwrite, all_linear) -> io.NodeOutput:
        plan = make_plan(mode, granularity, all_linear=all_linear)
        target = saved_path(save_as or default_name(model_name, plan.mode, layout), overwrite=overwrite)
        report = quantize_file(
            folder_paths.get_full_path_or_raise("diffusion_models", model_name),
            target,
            plan,
            layout=LAYOUTS[layout],
            overwrite=overwrite,
            progress=host_progress("quantizing and writing"),
        )
        text = "\n".join([report.line, *ignored_inputs(cls)])
        return io.NodeOutput(target.name, text, ui=ui.PreviewText(text))


def default_name(model_name: str, mode: str, layout: str | None) -> str:
    bits = "int4" if mode == "int4" else "int8"
    quanto = "" if layout in (None, "ComfyUI") else "_quanto"
    return f"{Path(model_name).stem}_{bits}{quanto}.safetensors"


NODES: list[type[io.ComfyNode]] = [QuantizeFile]
