"""Load Magic141 Encoders, from Hugging Face folders or from stock CLIP and CLIP_VISION."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.folders import find_encoder_folder, folder_choices
from ..model_patches.bridge.encoders.from_clip import encoders_from_clip
from ..model_patches.bridge.encoders.socket import PRECISIONS, EncodersSocket, load_encoders
from ..model_patches.bridge.progress import stages
from ..model_patches.encoders.folders import CLIP_TYPES, check_clip_folder, check_vlm_folder

ENCODERS_TOOLTIP = "The text and picture encoders. Connect them to VLM Image Encode or Sliding Window Extend."


class LoadMagic141Encoders(io.ComfyNode):
    """LLaVA and CLIP folders to encoders; one LLaMA in memory is both the LLM and the VLM."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141LoadEncoders",
            display_name="Load Magic141 Encoders",
            category="Magic141/load",
            description="Loads the encoders from Hugging Face folders: a LLaVA and a CLIP-L. The LLaVA's LLaMA is "
            "also the text encoder, so only one is held in memory. ComfyUI moves them to the GPU when they are used, "
            "and off it again.",
            search_aliases=[
                "magic141",
                "magic 1-for-1",
                "llava",
                "vlm",
                "text encoder loader",
                "hunyuan video",
            ],
            inputs=[
                io.Combo.Input(
                    "vlm_folder",
                    options=folder_choices(("llava",)),
                    tooltip="A LLaVA folder with config.json, weights, tokenizer and image processor, in "
                    "models/text_encoders, models/LLM or models/clip_vision. For Magic141: "
                    "llava-llama-3-8b-v1_1-transformers.",
                ),
                io.Combo.Input(
                    "clip_folder",
                    options=folder_choices(CLIP_TYPES),
                    tooltip="A CLIP folder (the whole model or the text model) for the pooled text, in the same "
                    "places. For Magic141: clip-vit-large-patch14.",
                ),
                io.Combo.Input(
                    "precision",
                    advanced=True,
                    options=["auto", *PRECISIONS],
                    default="auto",
                    tooltip="The number format of the weights. auto: fp16 on a GPU; on the CPU fp32 for small models "
                    "and bf16 for large ones, which are computed in fp32 if the processor is slow at bf16.",
                ),
            ],
            outputs=[EncodersSocket.Output(display_name="encoders", tooltip=ENCODERS_TOOLTIP)],
        )

    @classmethod
    def validate_inputs(cls, vlm_folder, clip_folder) -> bool:
        if vlm_folder is not None:
            check_vlm_folder(find_encoder_folder(vlm_folder))
        if clip_folder is not None:
            check_clip_folder(find_encoder_folder(clip_folder))
        return True

    @classmethod
    def execute(cls, vlm_folder: str, clip_folder: str, precision: str) -> io.NodeOutput:
        with stages() as show_stage:
            folders = find_encoder_folder(vlm_folder), find_encoder_folder(clip_folder)
            return io.NodeOutput(load_encoders(*folders, precision, on_stage=show_stage))


class Magic141EncodersFromCLIP(io.ComfyNode):
    """The same encoders out of the single files artists already have."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141EncodersFromCLIP",
            display_name="Magic141 Encoders from CLIP",
            category="Magic141/load",
            description="Makes the encoders from stock loaders: DualCLIPLoader (llava_llama3 + clip_l, type "
            "hunyuan_video) and Load CLIP Vision (llava_llama3_vision). They use the same layers, tokens and order as "
            "the Hugging Face folders.",
            search_aliases=["magic141", "magic 1-for-1", "llava", "vlm", "hunyuan video", "dualcliploader"],
            inputs=[
                io.Clip.Input(
                    "clip", tooltip="From DualCLIPLoader, type hunyuan_video: LLaVA-LLaMA-3 and CLIP-L."
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="The vision tower, llava_llama3_vision. Without it the encoders cannot see pictures.",
                ),
            ],
            outputs=[EncodersSocket.Output(display_name="encoders", tooltip=ENCODERS_TOOLTIP)],
        )

    @classmethod
    def execute(cls, clip, clip_vision=None) -> io.NodeOutput:
        return io.NodeOutput(encoders_from_clip(clip, clip_vision))
