"""Load Magic141 Model."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..model_patches.bridge.encoders.folders import model_files
from ..model_patches.bridge.loading import PRECISIONS, load_magic141_model
from ..model_patches.bridge.progress import stages
from ..model_patches.dit.checkpoint import identify
from ..model_patches.dit.weights_file import read_header
from ..model_patches.int8.quanto import native_header


class LoadMagic141Model(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141LoadModel",
            display_name="Load Magic141 Model",
            category="Magic141/load",
            description="Loads an image-to-video model of the HunyuanVideo layout and says what it needs.",
            search_aliases=[
                "magic 1-for-1",
                "hunyuan video",
                "load diffusion model",
                "unet loader",
                "ti2v",
                "i2v",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_files("diffusion_models"),
                    tooltip="A file in models/diffusion_models: Magic141, HunyuanVideo or SkyReels; safetensors or .pth"
                    " (fp8_scaled and int8 too). A text-to-video model (16 channels) is expanded to 33.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(PRECISIONS),
                    default="default",
                    optional=True,
                    advanced=True,
                    tooltip="The number format of the weights in memory, as in Load Diffusion Model. default: that of "
                    "the file. The fp8 formats take half of bf16's memory at some loss; fp8_e4m3fn_fast also computes "
                    "in fp8 on GPUs that can. Int8 files keep their own.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="model",
                    tooltip="The model with shift 5 set on it, for Few-Step TI2V Sampler or any stock sampler.",
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="One line: what was found in the file and which conditioning it needs.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        """Say what is wrong with the file before anything runs; only its header is read."""
        if model_name is None:  # linked from another node: known at run time
            return True
        path = folder_paths.get_full_path("diffusion_models", model_name)
        if path is None:
            return f"{model_name} is not in models/diffusion_models. Choose a file from the list."
        identify(native_header(read_header(path)))
        return True

    @classmethod
    def fingerprint_inputs(cls, model_name: str, weight_dtype: str = "default") -> str:
        """Load again when the file was replaced under the same name."""
        path = folder_paths.get_full_path("diffusion_models", model_name)
        return "" if path is None else str(Path(path).stat().st_mtime_ns)

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str = "default") -> io.NodeOutput:
        path = folder_paths.get_full_path_or_raise("diffusion_models", model_name)
        with stages() as show_stage:
            show_stage(f"reading {model_name}")
            model, report = load_magic141_model(path, precision=weight_dtype)
        return io.NodeOutput(model, report.line, ui=ui.PreviewText(report.line))
