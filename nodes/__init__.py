"""ComfyUI node classes: schema, wiring and messages; no tensor algebra."""

from types import ModuleType

from comfy_api.latest import ComfyExtension, io

from ..model_patches.bridge.folders import offer_example_image, register_embedded_models
from . import (
    clip_quality,
    distill,
    drift_report,
    few_step_sampler,
    folder_quality,
    image_index,
    image_prior,
    int8_quantize,
    load_encoders,
    load_model,
    quantization_report,
    quantize_file,
    retrieve_image_prior,
    sliding_window,
    training_set,
    vlm_image_encode,
    window_save,
    window_schedule,
    window_series,
    window_start,
)
from .limits import keep_limits
from .refusals import say_refusals

# One line a module; each holds a list ``NODES``.
MODULES: tuple[ModuleType, ...] = (
    load_model,
    few_step_sampler,
    load_encoders,
    vlm_image_encode,
    sliding_window,
    window_start,
    window_save,
    window_schedule,
    window_series,
    drift_report,
    clip_quality,
    folder_quality,
    image_index,
    retrieve_image_prior,
    image_prior,
    int8_quantize,
    quantize_file,
    quantization_report,
    training_set,
    distill,
)


class Magic141Extension(ComfyExtension):
    """Everything this pack adds to the host."""

    async def on_load(self) -> None:
        register_embedded_models()
        offer_example_image()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [say_refusals(keep_limits(node)) for module in MODULES for node in module.NODES]


async def comfy_entrypoint() -> Magic141Extension:
    """Return the extension; ComfyUI calls this once at start."""
    return Magic141Extension()
