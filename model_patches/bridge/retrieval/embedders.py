"""CLIP models that make vectors for retrieval, under the host's memory management."""

import functools
from pathlib import Path
from typing import Protocol

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from torch import Tensor, nn

from ...retrieval.build import Embedder
from ...retrieval.embed import ClipEmbedder, Preprocess, is_clip_folder, probe_image
from ...retrieval.records import Model
from ...retrieval.search import unit_length
from ...store.pictures import to_image
from ..encoders.folders import encoder_folders
from ..encoders.managed import host_managed, load_managed

# Memory for activations, in bytes per pixel value: about 300 MB for 32 pictures of 224 pixels.
ACTIVATION_BYTES = 64
TEXT_BYTES = 64 * 1024**2


class PictureEmbedder(Embedder, Protocol):
    """A model that embeds pictures, with a name for messages."""

    name: str


class ManagedClip:
    """A CLIP folder with both towers; the host loads and offloads it like its own text encoders."""

    def __init__(self, embedder: ClipEmbedder, name: str) -> None:
        self.embedder, self.name = embedder, name
        self.image_size, self.prepare = embedder.image_size, embedder.prepare
        holder = nn.Module()  # transformers' models have a `device` that the host cannot set
        holder.clip = embedder.module
        self.patcher = host_managed(holder)

    def embed_prepared(self, images: Tensor) -> Tensor:
        device = load_managed(self.patcher, images.numel() * ACTIVATION_BYTES)
        return self.embedder.embed_prepared(images.to(device)).cpu()

    def embed_texts(self, texts: list[str]) -> Tensor:
        load_managed(self.patcher, TEXT_BYTES)
        return self.embedder.embed_texts(texts).cpu()


class ClipVisionEmbedder:
    """A stock CLIP_VISION: pictures only.

    Raises:
        ValueError: the model has no projection into CLIP's space (SigLIP, DINO, LLaVA's tower).
    """

    name = "CLIP_VISION"

    def __init__(self, clip_vision: ClipVisionModel) -> None:
        projection = getattr(clip_vision.model, "visual_projection", None)
        if not isinstance(projection, nn.Module) or getattr(clip_vision.model, "multi_modal_projector", None):
            raise ValueError(
                "This CLIP_VISION has no projection into CLIP's space (SigLIP, DINO and LLaVA's vision tower do not). "
                "Load a CLIP one, for example clip_vision_h or clip-vit-large-patch14, or unplug it and use 'clip'."
            )
        self.clip_vision, self.image_size = clip_vision, clip_vision.image_size
        self.prepare = Preprocess(self.image_size).prepare

    def embed_prepared(self, images: Tensor) -> Tensor:
        vectors = self.clip_vision.encode_image(images.float() / 255)["image_embeds"]
        return unit_length(vectors).cpu()


def load_clip(name: str) -> ManagedClip:
    """Load a CLIP model folder by its name in the dropdown; the last one stays loaded between prompts.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folders = clip_folders()
    if name not in folders:
        raise FileNotFoundError(
            f"There is no CLIP model folder '{name}'. Found: {', '.join(folders) or 'none'}. Put a Hugging Face CLIP "
            "folder (config.json, model.safetensors, tokenizer files) into models/text_encoders."
        )
    return _load_clip(name, folders[name], (folders[name] / "config.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _load_clip(name: str, folder: Path, stamp: int) -> ManagedClip:
    embedder = ClipEmbedder.from_folder(folder)
    dtype = comfy.model_management.text_encoder_dtype(comfy.model_management.text_encoder_device())
    embedder.module.to(dtype)
    return ManagedClip(embedder, name)


def identify(embedder: PictureEmbedder) -> Model:
    """Return the record of a model that an index stores."""
    probe = embedder.embed_prepared(probe_image(embedder.image_size))[0]
    return Model(embedder.name, [round(value, 5) for value in probe.tolist()])


def embed_frame(embedder: PictureEmbedder, frame: Tensor) -> Tensor:
    """Return the vector (D,) of one (H, W, C) frame in [0, 1]."""
    with torch.inference_mode():
        return embedder.embed_prepared(embedder.prepare(to_image(frame))[None])[0]


def clip_folders() -> dict[str, Path]:
    """Return the CLIP model folders (both towers, Hugging Face layout) by their names in the dropdown."""
    return {name: folder for name, folder in encoder_folders().items() if is_clip_folder(folder)}
