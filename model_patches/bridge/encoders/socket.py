"""The MAGIC141_ENCODERS socket, which turns prompt, negative prompt and images into the host's conditioning."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import comfy.model_management
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ...encoders.clip import PooledTextEncoder, tokenize_pooled
from ...encoders.context import check_finite, check_prompt, join_context
from ...encoders.folders import load_clip_text, load_vlm
from ...encoders.llm import prompt_states, tokenize_prompt
from ...encoders.vlm import image_states
from ...store.pictures import to_uint8
from ..fingerprint import tensor_fingerprint
from ..progress import ignore_stage
from .managed import host_managed, load_managed

EncodersSocket = io.Custom("MAGIC141_ENCODERS")
"""The io type that nodes declare for encoders."""

Conditioning = list[tuple[Tensor, dict[str, Any]] | list[Any]]
"""The host's CONDITIONING: [[context (1, L, D), {"pooled_output": ..., ...}], ...]."""

Images = Tensor | list[Tensor] | None
"""An IMAGE (N, H, W, 3), or several of different sizes."""

Latent = dict[str, Any]
"""The host's LATENT: {"samples": (B, C, T, H, W), ...}."""

Result = TypeVar("Result")

# Memory for activations of one pass of about 800 tokens, in units of the model's width.
ACTIVATION_ROWS = 64 * 800
CACHED_RESULTS = 32
"""How many results are cached, unless a run needs more."""
PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SMALL_MODEL_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class EncodedPrompt:
    """Positive and negative conditioning in the host's format."""

    positive: Conditioning
    negative: Conditioning


class EncoderBackend(Protocol):
    """Turns text and pictures into states; every result is float32 on the host's intermediate device."""

    def prompt_states(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ((1, L, D) language model states without padding, (1, P) pooled CLIP state)."""
        ...

    def image_states(self, images: list[Tensor]) -> Tensor:
        """Return (1, L, D) VLM states of (H, W, 3) uint8 images."""
        ...


class Magic141Encoders:
    """LLM, CLIP and VLM behind one call; results are cached, so that a new seed encodes nothing again."""

    def __init__(self, backend: EncoderBackend):
        self.backend = backend
        self._results: OrderedDict[str, Any] = OrderedDict()
        self._max_results = CACHED_RESULTS

    def keep_results(self, count: int) -> None:
        """Cache at least so many results from now on: one for each prompt and one for each picture."""
        self._max_results = max(self._max_results, count)

    def encode(self, prompt: str, negative_prompt: str = "", images: Images = None) -> EncodedPrompt:
        """Encode a prompt, its negative and the reference images.

        Args:
            prompt: what should happen.
            negative_prompt: used only with cfg > 1.
            images: (N, H, W, 3) in [0, 1], or a list of such tensors of different sizes, whole and uncropped;
                None for no image. All go into one context, in order; the negative gets the same image states.

        Raises:
            ValueError: a prompt holds a control token, or a state is not finite.
        """
        check_prompt(prompt)
        check_prompt(negative_prompt, "negative prompt")
        pictures = as_uint8(images)
        vlm = None
        if pictures:
            key = "image:" + ":".join(tensor_fingerprint(picture) for picture in pictures)
            vlm = self._cached(key, lambda: check_finite(self.backend.image_states(pictures), "VLM"))
        return EncodedPrompt(self._conditioning(prompt, vlm), self._conditioning(negative_prompt, vlm))

    def _conditioning(self, prompt: str, vlm: Tensor | None) -> list:
        states, pooled = self._cached("prompt:" + prompt, lambda: self.backend.prompt_states(prompt))
        check_finite(states, "LLM")
        return [[join_context(vlm, states), {"pooled_output": check_finite(pooled, "CLIP text encoder")}]]

    def _cached(self, key: str, compute: Callable[[], Result]) -> Result:
        if key not in self._results:
            self._results[key] = compute()
            if len(self._results) > self._max_results:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]


class HuggingFaceBackend:
    """LLaVA and CLIP from transformers; one LLaMA serves as LLM and as the VLM's language part."""

    def __init__(
        self,
        vlm: Any,  # a VisionLanguageModel, or its int8 twin
        tokenizer: Any,
        image_processor: Any,
        clip_text: PooledTextEncoder,
        clip_tokenizer: Any,
    ):
        self.vlm, self.tokenizer, self.image_processor = vlm, tokenizer, image_processor
        self.clip_text, self.clip_tokenizer = clip_text, clip_tokenizer
        self.vlm_patcher = host_managed(vlm)
        self.clip_patcher = host_managed(clip_text)

    def _load_vlm(self) -> torch.device:
        width = self.vlm.language_model.config.hidden_size
        return load_managed(self.vlm_patcher, ACTIVATION_ROWS * width * 4)

    @torch.no_grad()
    def prompt_states(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Return ((1, L, D), (1, P)); see ``EncoderBackend``."""
        ids = tokenize_prompt(self.tokenizer, prompt).to(self._load_vlm())
        states = to_intermediate(prompt_states(self.vlm.language_model, ids))
        device = load_managed(self.clip_patcher, 0)
        encoding = {k: v.to(device) for k, v in tokenize_pooled(self.clip_tokenizer, prompt).items()}
        return states, to_intermediate(self.clip_text(**encoding))

    @torch.no_grad()
    def image_states(self, images: list[Tensor]) -> Tensor:
        """Return (1, L, D); see ``EncoderBackend``."""
        pictures = [Image.fromarray(image.numpy()) for image in images]
        pixel_values = self.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        device = self._load_vlm()
        return to_intermediate(image_states(self.vlm, self.tokenizer, pixel_values.to(device)))


def load_encoders(
    vlm_folder: Path,
    clip_folder: Path,
    precision: str = "auto",
    *,
    on_stage: Callable[[str], None] = ignore_stage,
) -> Magic141Encoders:
    """Load the encoders from two Hugging Face folders.

    Args:
        precision: "auto", "bf16", "fp16" or "fp32"; see ``choose_dtype``.
        on_stage: called with each stage as text.

    Raises:
        ValueError: a folder is incomplete or does not fit; the message names file, key or token.
    """
    on_stage(f"loading {clip_folder.name}")
    clip_text, clip_tokenizer = load_clip_text(clip_folder, choose_dtype(precision, clip_folder))
    on_stage(f"loading {vlm_folder.name}")
    vlm, tokenizer, image_processor = load_vlm(vlm_folder, choose_dtype(precision, vlm_folder))
    return Magic141Encoders(HuggingFaceBackend(vlm, tokenizer, image_processor, clip_text, clip_tokenizer))


def choose_dtype(precision: str, folder: Path) -> torch.dtype:
    """Return the dtype to hold and run a folder's weights in.

    "auto" is fp16 on an accelerator, as the authors run them; on the CPU fp32 for weights of up to 2 GB and bf16
    for larger ones (fp16 arithmetic is slow there).
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if not comfy.model_management.is_device_cpu(comfy.model_management.text_encoder_device()):
        return torch.float16
    weights = sum(
        p.stat().st_size for p in folder.iterdir() if p.suffix in (".safetensors", ".bin") and p.is_file()
    )
    return torch.float32 if weights <= SMALL_MODEL_BYTES else torch.bfloat16


def as_uint8(images: Images) -> list[Tensor]:
    """Return IMAGE batches as a list of (H, W, 3) uint8 pictures on the CPU, as an image file would hold them."""
    if images is None:
        return []
    batches = [images] if isinstance(images, Tensor) else images
    pictures = [picture for batch in batches for picture in (batch if batch.ndim == 4 else batch[None])]
    return [to_uint8(picture) for picture in pictures]


def to_intermediate(states: Tensor) -> Tensor:
    """Return states as float32 where the host keeps what travels between nodes."""
    return states.to(comfy.model_management.intermediate_device(), torch.float32)
