"""Embed texts and pictures into one space with a CLIP model folder, through transformers.

Shapes: N items, S image size in pixels, D projection width.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..encoders.clip import OPENAI_MEAN, OPENAI_STD, projected
from ..encoders.folders import PROCESSOR_FILES, load_pretrained, load_tokenizer, read_config
from ..encoders.pictures import clip_square
from ..store.cancel import import_until_canceled
from ..store.files import read_json
from .search import unit_length

MAX_ASPECT = 16


def _read_settings(path: Path) -> dict:
    try:
        settings = read_json(path)
        return settings.get("image_processor", settings)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path.parent.name}/{path.name} is not readable ({error}). Download it again."
        ) from None


def is_clip_folder(folder: Path) -> bool:
    """Say whether a folder holds a CLIP model with both towers, in the Hugging Face layout."""
    try:
        config = read_config(folder)
    except ValueError:
        return False
    return config.get("model_type") == "clip" and "vision_config" in config and "text_config" in config


class Preprocess:
    """Resize, crop and normalize pictures as in the model's training.

    Source: transformers' CLIP image processor, which cuts the long side down to whole pixels.

    Args:
        image_size: S, side of the square that the model sees.
        mean, std: of each color channel.
        shortest_edge: the short side is resized to this before the center crop.
    """

    def __init__(
        self, image_size: int, *, mean=OPENAI_MEAN, std=OPENAI_STD, shortest_edge: int | None = None
    ) -> None:
        self.image_size, self.shortest_edge = image_size, shortest_edge or image_size
        self.mean, self.std = torch.tensor(mean), torch.tensor(std)

    @classmethod
    def from_folder(cls, folder: Path, image_size: int) -> "Preprocess":
        """Read the processor's settings; which file holds them depends on the version of transformers."""
        files = [folder / name for name in PROCESSOR_FILES if (folder / name).is_file()]
        settings = _read_settings(files[0]) if files else {}
        size = settings.get("size", image_size)
        edge = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
        mean, std = settings.get("image_mean", OPENAI_MEAN), settings.get("image_std", OPENAI_STD)
        return cls(image_size, mean=mean, std=std, shortest_edge=edge)

    def prepare(self, image: Image.Image) -> Tensor:
        """Return the center square of an RGB picture, (S, S, 3) uint8."""
        short_side = max(self.shortest_edge, self.image_size)
        square = clip_square(_trim_strip(image), self.image_size, short_side=short_side)
        return torch.from_numpy(np.array(square, dtype=np.uint8))

    def normalize(self, images: Tensor) -> Tensor:
        """Return prepared pictures (N, S, S, 3) uint8 as model input (N, 3, S, S) float32."""
        values = (images.float() / 255 - self.mean.to(images.device)) / self.std.to(images.device)
        return values.permute(0, 3, 1, 2)


class ClipEmbedder:
    """A CLIP model that makes unit vectors (N, D) of texts and of pictures.

    Attributes:
        module: the transformers model; move it to a device before embedding.
        image_size: S.
        prepare: returns a picture as the model sees it, (S, S, 3) uint8.
    """

    def __init__(self, module: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        self.module, self.tokenizer, self.preprocess = module, tokenizer, preprocess
        self.image_size, self.prepare = preprocess.image_size, preprocess.prepare
        self.max_tokens = module.config.text_config.max_position_embeddings

    @classmethod
    def from_folder(cls, folder: Path) -> "ClipEmbedder":
        """Load a Hugging Face CLIP folder onto the CPU in float32.

        Raises:
            ValueError: the folder holds something else.
        """
        import_until_canceled("transformers.models.clip.modeling_clip")
        from transformers import CLIPModel

        if not is_clip_folder(folder):
            raise ValueError(
                f"'{folder.name}' is not a CLIP model folder: expected config.json with model_type 'clip', a "
                "text and a vision part (for example openai/clip-vit-large-patch14 as downloaded from Hugging Face)."
            )
        module = load_pretrained(CLIPModel, folder, torch.float32)
        preprocess = Preprocess.from_folder(folder, module.config.vision_config.image_size)
        return cls(module, load_tokenizer(folder), preprocess)

    def embed_prepared(self, images: Tensor) -> Tensor:
        """Return vectors (N, D) of prepared pictures (N, S, S, 3)."""
        weight = self.module.visual_projection.weight
        pixel_values = self.preprocess.normalize(images.to(weight.device)).to(weight.dtype)
        return unit_length(projected(self.module.get_image_features(pixel_values=pixel_values)))

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Return vectors (N, D) of texts; what exceeds the model's context (77 tokens) is cut off."""
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        ).to(self.module.visual_projection.weight.device)
        features = self.module.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return unit_length(projected(features))


def _trim_strip(image: Image.Image) -> Image.Image:
    """Cut the ends off a very long strip: resized whole, one of 1 x 100,000 px would fill 20 GB."""
    longest = MAX_ASPECT * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def probe_image(image_size: int) -> Tensor:
    """Return one fixed picture, (1, S, S, 3) uint8; two models are told apart by their vectors of it."""
    line = torch.linspace(0, 1, image_size)
    y, x = torch.meshgrid(line, line, indexing="ij")
    rings = torch.sin(24 * ((x - 0.4) ** 2 + (y - 0.6) ** 2)) * 0.5 + 0.5
    return torch.stack([x, rings, (x * 8 + y * 4) % 1], dim=-1).mul(255).to(torch.uint8)[None]
