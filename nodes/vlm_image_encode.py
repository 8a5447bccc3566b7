"""VLM Image Encode: turn prompt and pictures into the conditioning of an image-to-video DiT."""

from comfy_api.latest import io

from ..model_patches.bridge.encoders.conditioning import (
    ClipRequest,
    ImageMode,
    check_request,
    image_to_video_conditioning,
)
from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.progress import stages
from ..model_patches.encoders.context import check_prompt
from ..model_patches.sizes import BUCKETS, check_clip_size, nearest_bucket
from .video_inputs import negative_prompt_input, size_inputs

FREE_SIZE = "width x height"
BUCKET_CHOICES = {f"nearest {family} bucket": family for family in BUCKETS}


def _inputs() -> list:
    return [
        EncodersSocket.Input(
            "encoders",
            lazy=True,  # they are gigabytes: the pictures are checked first
            tooltip="From Load Magic141 Encoders or Magic141 Encoders from CLIP.",
        ),
        io.Vae.Input("vae", tooltip="A HunyuanVideo VAE, or a tiny one (taehv, the embedded shapes VAE)."),
        io.String.Input(
            "prompt",
            multiline=True,
            dynamic_prompts=True,
            tooltip="What happens in the clip, in plain words.",
        ),
        negative_prompt_input(
            "What the clip should not show. Used only with cfg above 1; the few-step models run at cfg 1."
        ),
        *size_inputs(
            960,
            544,
            "{0} of the clip in pixels, a multiple of 16. With a bucket, only its ratio to the {1} counts.",
        ),
        io.Int.Input(
            "length",
            default=81,
            min=1,
            max=2049,
            step=4,
            tooltip="Number of frames, 4n + 1, at 24 per second: 81 is 3.4 s, 121 is 5 s, 1 is a still image.",
        ),
        io.Combo.Input(
            "size",
            options=[FREE_SIZE, *BUCKET_CHOICES],
            default=FREE_SIZE,
            tooltip="Use width and height as they are, or the training size closest in shape to the picture "
            "(without a picture, to width : height).",
        ),
        io.Combo.Input(
            "image_mode",
            options=[mode.value for mode in ImageMode],
            default=ImageMode.START_FRAME.value,
            tooltip="What the pictures mean. start frame: the clip begins with this one picture. known frames: "
            "they are the clip's first 4n + 1 frames, and the model continues them. reference pictures: only the "
            "VLM sees them. start frame + references: the first is the start frame, and the VLM sees all.",
        ),
        io.Image.Input(
            "image",
            optional=True,
            tooltip="A picture or a batch; see image_mode. It is resized to cover the clip and cropped at the "
            "center.",
        ),
        io.Image.Input(
            "end_image",
            optional=True,
            tooltip="The clip's last frame, for models that were trained with one.",
        ),
        io.Latent.Input(
            "known_latent",
            optional=True,
            tooltip="Latents of the clip's first frames instead of pictures, for example the end of another clip "
            "(Latent Cut, dim t). All its frames are used.",
        ),
        io.Float.Input(
            "guidance",
            advanced=True,
            default=6.0,
            min=1.0,
            max=30.0,
            step=0.1,
            optional=True,
            tooltip="Embedded guidance g = 1 + w, for models with a guidance embedder: 6 for HunyuanVideo; for "
            "CFG-distilled students, the value they were trained for. Other models ignore it. This is not cfg.",
        ),
    ]


class VLMImageEncode(io.ComfyNode):
    """Wires encoders, VAE, pictures and size to positive, negative and latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141VLMImageEncode",
            display_name="VLM Image Encode",
            category="Magic141/generate",
            description="Encodes what an image-to-video model needs: the VLM looks at the whole picture, the LLM "
            "reads the prompt, and the VAE encodes the known frames. Leave image unconnected for text to video, or "
            "for text to image with length 1.",
            search_aliases=["magic141", "magic 1-for-1", "image to video", "i2v", "llava", "hunyuan video"],
            inputs=_inputs(),
            outputs=[
                io.Conditioning.Output(
                    display_name="positive",
                    tooltip="The prompt, pictures and known frames, for the sampler's positive input.",
                ),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The negative prompt with the same pictures and frames. Used only with cfg above 1.",
                ),
                io.Latent.Output(
                    display_name="latent", tooltip="An empty clip of the chosen size, for the sampler."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width, height, length, prompt, negative_prompt) -> bool:
        if None not in (width, height, length):
            check_clip_size(width, height, length)
        check_prompt(prompt or "")
        check_prompt(negative_prompt or "", "negative prompt")
        return True

    @classmethod
    def check_lazy_status(cls, encoders=None, vae=None, guidance=None, **inputs) -> list[str]:
        """Refuse pictures and sizes that do not fit before the encoders are loaded, then ask for them."""
        check_request(_request(**inputs))
        return ["encoders"] if encoders is None else []

    @classmethod
    def execute(cls, encoders, vae, guidance=6.0, **inputs) -> io.NodeOutput:
        request = _request(guidance=guidance, **inputs)
        with stages() as show_stage:
            return io.NodeOutput(*image_to_video_conditioning(encoders, vae, request, on_stage=show_stage))


def _request(*, width: int, height: int, size: str, image=None, known_latent=None, **others) -> ClipRequest:
    """Return the clip that the node's inputs ask for."""
    width, height = clip_size(image, width, height, size)
    known = None if known_latent is None else known_latent["samples"]
    return ClipRequest(width, height, images=image, known_latent=known, **others)


def clip_size(image, width: int, height: int, size: str) -> tuple[int, int]:
    """Return the clip's (width, height) in pixels: as given, or the bucket nearest to the picture's shape."""
    if size not in BUCKET_CHOICES:
        return width, height
    shape = (width, height) if image is None else (image.shape[2], image.shape[1])
    return nearest_bucket(*shape, BUCKET_CHOICES[size])
