"""Load encoders from Hugging Face folders: first check names and headers, in milliseconds, then load strictly."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dit.mapping import is_refused_mapping, map_tensors
from ..dit.shards import indexed_names
from ..dit.weights_file import read_header, unpickling_trouble
from ..store.cancel import import_until_canceled
from ..store.files import read_json_object
from ..store.library_errors import library_errors
from .cancel import loading_until_canceled
from .clip import PooledTextEncoder
from .templates import CROP_START, IMAGE_TOKEN, SPECIAL_TOKENS, VIDEO_PROMPT_TEMPLATE
from .vlm import VisionLanguageModel

CLIP_TYPES = ("clip", "clip_text_model")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# The VLM's output head is dropped after loading, so it may be absent (or tied to the embedding).
MAY_BE_MISSING = frozenset({"lm_head.weight", "language_model.lm_head.weight"})


def read_config(folder: Path) -> dict:
    """Return a folder's ``config.json``.

    Raises:
        ValueError: there is none, or it is not a JSON object.
    """
    try:
        return read_json_object(folder / "config.json")
    except FileNotFoundError:
        raise ValueError(
            f"{folder.name} has no config.json. Choose a complete Hugging Face model folder."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder.name}/config.json is not readable ({error}). Download it again."
        ) from error


def _require_one_of(folder: Path, names: tuple[str, ...], what: str) -> None:
    if not any((folder / name).is_file() for name in names):
        raise ValueError(
            f"{folder.name} holds no {what}: expected one of {', '.join(names)}. "
            "Download the missing file from the page the folder comes from."
        )


def _require_weights(folder: Path) -> None:
    """Refuse missing and truncated weights; only their headers are read."""
    _require_one_of(folder, WEIGHT_FILES, "weights")
    for name in _weight_files(folder):
        path = folder / name
        if path.suffix == ".safetensors" or zipfile.is_zipfile(path):
            try:
                read_header(path)
            except ValueError as error:
                raise ValueError(f"In {folder.name}, {error}") from None


def _weight_files(folder: Path) -> list[str]:
    """Return the files that transformers reads: the first of ``WEIGHT_FILES``, or the shards it names."""
    first = next(name for name in WEIGHT_FILES if (folder / name).is_file())
    if not first.endswith(".index.json"):
        return [first]
    shards = indexed_names(folder / first)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise ValueError(f"{folder.name} lacks {missing[0]}, which {first} names. Download it too.")
    return shards


def check_vlm_folder(folder: Path) -> None:
    """Refuse a folder that is not a complete LLaVA, before anything long is read.

    Raises:
        ValueError: naming the file that is wrong or missing.
    """
    kind = read_config(folder).get("model_type")
    if kind != "llava":
        raise ValueError(
            f"{folder.name} is a {kind!r} model; the VLM must be a 'llava' one, "
            "e.g. llava-llama-3-8b-v1_1-transformers."
        )
    _require_one_of(folder, PROCESSOR_FILES, "image processor")
    _require_one_of(folder, TOKENIZER_FILES, "tokenizer")
    _require_weights(folder)


def check_clip_folder(folder: Path) -> None:
    """Refuse a folder that is not a complete CLIP model or CLIP text model.

    Raises:
        ValueError: naming the file that is wrong or missing.
    """
    kind = read_config(folder).get("model_type")
    if kind not in CLIP_TYPES:
        raise ValueError(
            f"{folder.name} is a {kind!r} model; the pooled text needs a CLIP one, e.g. clip-vit-large-patch14."
        )
    _require_one_of(folder, TOKENIZER_FILES, "tokenizer")
    _require_weights(folder)


def check_vlm_tokenizer(tokenizer, name: str, image_token_id: int | None) -> None:
    """Refuse a tokenizer that lacks a special token, or does not split the prompt template into 95 tokens.

    Raises:
        ValueError: naming the token.
    """
    for token in (*SPECIAL_TOKENS, IMAGE_TOKEN):
        if (
            len(tokenizer(token, add_special_tokens=False).input_ids) != 1
            or token not in tokenizer.get_vocab()
        ):
            raise ValueError(
                f"The tokenizer in {name} does not know the special token {token!r}. Use the tokenizer files of "
                "the LLaVA release (its added_tokens), not those of a plain LLaMA."
            )
    token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if token_id != image_token_id:
        raise ValueError(
            f"In {name} the tokenizer's {IMAGE_TOKEN!r} is token {token_id}, but config.json (image_token_index) says "
            f"{image_token_id}. Take both files from the same release."
        )
    prefix = VIDEO_PROMPT_TEMPLATE.split("{}")[0]
    count = len(tokenizer(prefix).input_ids)
    if count != CROP_START:
        raise ValueError(
            f"The tokenizer in {name} splits the video prompt template into {count} tokens, but Magic141 "
            f"crops {CROP_START}. Use the LLaMA-3 tokenizer of the LLaVA release (it must add '<|begin_of_text|>')."
        )


def _require_all_keys(folder: Path, report: dict) -> None:
    missing = sorted(set(report["missing_keys"]) - MAY_BE_MISSING)
    mismatched = sorted(report["mismatched_keys"], key=str)
    if missing:
        raise ValueError(
            f"{folder.name} lacks {len(missing)} of the weights its config.json asks for, first {missing[0]}. "
            "Download the folder again."
        )
    if mismatched:
        key, actual, wanted = mismatched[0]
        raise ValueError(
            f"In {folder.name} {key} has shape {tuple(actual)}, but config.json asks for {tuple(wanted)}. Take the "
            "weights and config.json from the same release."
        )


def load_pretrained(model_class: Any, folder: Path, dtype: torch.dtype, **model_options: Any) -> Any:
    """Load a model of transformers from a folder, for inference.

    Raises:
        ValueError: its weights are damaged, would execute code, or do not match its configuration.
    """
    import transformers

    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    dtype_option = "dtype" if version >= (4, 56) else "torch_dtype"
    options = {dtype_option: dtype, "local_files_only": True, "output_loading_info": True, **model_options}
    with library_errors(folder.name), loading_until_canceled():
        try:
            # Mismatches are reported below: transformers' own error does not say which key.
            model, report = _from_pretrained(model_class, folder, ignore_mismatched_sizes=True, **options)
        except pickle.UnpicklingError as error:  # from an old .bin: newer files were checked before
            raise ValueError(f"a .bin file in it {unpickling_trouble(error)}") from None
    _require_all_keys(folder, report)
    return model.eval().requires_grad_(False)


def _from_pretrained(model_class: Any, folder: Path, **options: Any) -> Any:
    """Load a folder with transformers; if the system refuses to map a file, from this pack's own mapping."""
    from transformers import AutoConfig

    try:
        return model_class.from_pretrained(folder, weights_only=True, **options)
    except RuntimeError as error:
        if not is_refused_mapping(error):
            raise
    weights: dict[str, Tensor] = {}
    for header in (read_header(folder / name) for name in _weight_files(folder)):
        weights |= map_tensors(header.path, header.tensors, header.starts)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return model_class.from_pretrained(None, config=config, state_dict=weights, weights_only=True, **options)


def load_tokenizer(folder: Path):
    """Load a folder's tokenizer, as its ``tokenizer.json`` describes it if it has one.

    The class named in the configuration is ignored: for LLaMA-3 files that name ``LlamaTokenizer``, transformers 5 uses
    another pre-tokenizer.

    Raises:
        ValueError: it cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with library_errors(f"The tokenizer in {folder.name}"):
        if (folder / "tokenizer.json").is_file():
            return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_image_processor(folder: Path):
    """Load a folder's image processor, always the one that uses Pillow.

    Which one transformers chooses by itself depends on its version and on what is installed; they resize differently.

    Raises:
        ValueError: it cannot be read.
    """
    import transformers

    is_new = hasattr(transformers, "CLIPImageProcessorPil")
    with_pillow = {"backend": "pil"} if is_new else {"use_fast": False}
    with library_errors(f"The image processor in {folder.name}"):
        return transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **with_pillow
        )


def load_vlm(folder: Path, dtype: torch.dtype) -> tuple[VisionLanguageModel, Any, Any]:
    """Load a LLaVA folder.

    Returns:
        (model, tokenizer, image_processor); the model on the CPU in ``dtype``.

    Raises:
        ValueError: the folder is incomplete, or its tokenizer or weights do not match its configuration.
    """
    import_until_canceled("transformers.models.llava.modeling_llava")
    from transformers import LlavaForConditionalGeneration

    check_vlm_folder(folder)
    config = read_config(folder)
    tokenizer = load_tokenizer(folder)
    image_token_id = config.get("image_token_index", config.get("image_token_id"))
    check_vlm_tokenizer(tokenizer, folder.name, image_token_id)
    image_processor = load_image_processor(folder)
    vlm = VisionLanguageModel(load_pretrained(LlavaForConditionalGeneration, folder, dtype))
    return vlm, tokenizer, image_processor


def load_clip_text(folder: Path, dtype: torch.dtype) -> tuple[PooledTextEncoder, Any]:
    """Load the text tower of a CLIP folder, whole (``CLIPModel``) or text-only (``CLIPTextModel``).

    Returns:
        (text model, tokenizer).

    Raises:
        ValueError: the folder is incomplete, or its weights do not match its configuration.
    """
    import_until_canceled("transformers.models.clip.modeling_clip")
    from transformers import CLIPModel, CLIPTextModel

    check_clip_folder(folder)
    tokenizer = load_tokenizer(folder)
    if read_config(folder)["model_type"] == "clip":
        return PooledTextEncoder(load_pretrained(CLIPModel, folder, dtype).text_model), tokenizer
    return PooledTextEncoder(load_pretrained(CLIPTextModel, folder, dtype)), tokenizer
