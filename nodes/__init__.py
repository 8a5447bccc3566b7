"""ComfyUI node classes: schema, wiring and messages; no tensor algebra."""

from comfy_api.latest import ComfyExtension, io

from ..model_patches.bridge.folders import offer_example_image, register_embedded_models
from .clip_quality import ClipQuality
from .distill import DistillToFewSteps
from .drift_report import DriftReport
from .few_step_sampler import FewStepSchedule, FewStepTI2VSampler
from .folder_quality import FolderQuality
from .image_index import BuildImageIndex
from .image_prior import ImagePrior
from .int8_quantize import Int8Quantize
from .limits import keep_limits
from .load_encoders import LoadMagic141Encoders, Magic141EncodersFromCLIP
from .load_model import LoadMagic141Model
from .quantization_report import QuantizationReport
from .quantize_file import QuantizeFile
from .refusals import say_refusals
from .retrieve_image_prior import RetrieveImagePrior
from .sliding_window import SlidingWindowExtend
from .training_set import BuildTrainingSet
from .vlm_image_encode import VLMImageEncode
from .window_save import WindowSave, WindowWrite
from .window_schedule import WindowSchedule
from .window_series import WindowFrames, WindowNext
from .window_start import WindowStart

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadMagic141Model,
    FewStepTI2VSampler,
    FewStepSchedule,
    LoadMagic141Encoders,
    Magic141EncodersFromCLIP,
    VLMImageEncode,
    SlidingWindowExtend,
    WindowStart,
    WindowSave,
    WindowWrite,
    WindowSchedule,
    WindowFrames,
    WindowNext,
    DriftReport,
    ClipQuality,
    FolderQuality,
    BuildImageIndex,
    RetrieveImagePrior,
    ImagePrior,
    Int8Quantize,
    QuantizeFile,
    QuantizationReport,
    BuildTrainingSet,
    DistillToFewSteps,
)


class Magic141Extension(ComfyExtension):
    """Everything this pack adds to the host."""

    async def on_load(self) -> None:
        register_embedded_models()
        offer_example_image()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [say_refusals(keep_limits(node)) for node in NODES]


async def comfy_entrypoint() -> Magic141Extension:
    """Return the extension; ComfyUI calls this once at start."""
    return Magic141Extension()
