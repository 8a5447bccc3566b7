"""The encoders against the same computation written out with transformers, step by step, on shared weights."""

from pathlib import Path

import pytest
import torch
from magic141.tests.support.tiny_encoders import write_clip_folder, write_llava_folder
from magic141.tools.host import use_comfyui
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, AutoTokenizer, CLIPModel, LlavaForConditionalGeneration

use_comfyui()

from magic141.model_patches.bridge.encoders.socket import load_encoders

PROMPT, NEGATIVE = "a large red star moves right fast", "black background"
LLM_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The main content and theme of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects."
    "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects."
    "4. background environment, light, style and atmosphere."
    "5. camera angles, movements, and transitions used in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)
VLM_TEMPLATE = (
    "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the following aspects: "
    "1. The central subject and overarching message or purpose of the video."
    "2. The color, shape, size, texture, quantity, text, and spatial arrangement of objects within the scene."
    "3. Actions, events, behaviors, temporal sequences, and physical movements or transformations of objects."
    "4. Behavior, facial expressions, emotions, speaking style, eye gaze, head orientation, body orientation,"
    " gestures (hand and body), and changes in these elements for the main character."
    "5. The background setting, lighting, artistic style, and overall mood or tone of the scene."
    "6. Camera angles, movements, transitions, and other filming techniques employed in the video:<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
)


@pytest.fixture(scope="module", params=["expands <image>", "does not expand <image>"])
def llava(request, tmp_path_factory) -> Path:
    return write_llava_folder(
        tmp_path_factory.mktemp("llava"), expands_image=request.param == "expands <image>"
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_clip_folder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def ours(llava, clip):
    return load_encoders(llava, clip, "fp32")


def pictures(count: int) -> Tensor:
    """Return pictures that are neither square nor the tower's size, in exact 8-bit steps."""
    levels = torch.randint(0, 256, (count, 40, 56, 3), generator=torch.Generator().manual_seed(0))
    return levels / 255.0


try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as PillowProcessor
except ImportError:  # transformers 4 names the one that works with Pillow so
    from transformers import CLIPImageProcessor as PillowProcessor


@torch.no_grad()
def theirs_llm(folder: Path, prompt: str) -> tuple[Tensor, Tensor]:
    """Template, pad to 256 + 95, hidden state [-3], crop 95: states and mask."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right", trust_remote_code=False)
    model = LlavaForConditionalGeneration.from_pretrained(folder, use_safetensors=True).model.language_model
    text = LLM_TEMPLATE.format(prompt)
    tokens = tokenizer(text, truncation=True, max_length=256 + 95, padding="max_length", return_tensors="pt")
    outputs = model(tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True)
    return outputs.hidden_states[-3][:, 95:], tokens.attention_mask[:, 95:]


@torch.no_grad()
def theirs_vlm(folder: Path, images: Tensor) -> Tensor:
    """A pass of its own: from just after the user header, every text token and every 4th image token."""
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    processor.image_processor = PillowProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder, use_safetensors=True)
    if processor.patch_size is None:
        processor.patch_size = model.config.vision_config.patch_size
        processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
        processor.num_additional_image_tokens = 1
    files = [Image.fromarray((image * 255).round().to(torch.uint8).numpy()) for image in images]
    inputs = processor(text=VLM_TEMPLATE.format("<image>" * len(files)), images=files, return_tensors="pt")
    states = model(**inputs, output_hidden_states=True).hidden_states[-1][0]
    ids = inputs.input_ids[0].tolist()
    header = processor.tokenizer(
        "<|start_header_id|>user<|end_header_id|>", add_special_tokens=False
    ).input_ids
    start = next(i for i in range(len(ids)) if ids[i : i + len(header)] == header) + len(header)
    image_token = processor.tokenizer.convert_tokens_to_ids("<image>")
    kept, seen = [], 0
    tokens_per_image = ids.count(image_token) // len(files)
    for position in range(start, len(ids)):
        if ids[position] != image_token:
            kept.append(states[position])
            continue
        if seen % tokens_per_image % 4 == 0:
            kept.append(states[position])
        seen += 1
    return torch.stack(kept)[None]


@torch.no_grad()
def theirs_clip(folder: Path, prompt: str) -> Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokens = tokenizer(prompt, truncation=True, max_length=77, padding="max_length", return_tensors="pt")
    model = CLIPModel.from_pretrained(folder, use_safetensors=True).text_model
    return model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).norm() / theirs.norm() < 1e-5


def test_llm_states_are_the_padded_ones_with_padding_stripped(ours, llava):
    states, mask = theirs_llm(llava, PROMPT)
    assert states.shape[1] == 256
    assert mask.sum() == len(PROMPT.split()) + 1
    assert_same(ours.encode(PROMPT).positive[0][0], states[:, mask[0].bool()])


def test_a_long_prompt_is_cut_to_256_tokens(ours, llava):
    prompt = "a large red star " * 100
    states, mask = theirs_llm(llava, prompt)
    assert mask.sum() == 256
    assert_same(ours.encode(prompt).positive[0][0], states)


def test_pooled_state(ours, clip):
    assert_same(ours.encode(PROMPT).positive[0][1]["pooled_output"], theirs_clip(clip, PROMPT))


@pytest.mark.parametrize("count", [1, 3])
def test_context_is_image_states_then_prompt_states(ours, llava, count):
    images = pictures(count)
    vlm = theirs_vlm(llava, images)
    assert vlm.shape[1] == count * 64 // 4 + 2
    encoded = ours.encode(PROMPT, NEGATIVE, images)
    for side, prompt in ((encoded.positive, PROMPT), (encoded.negative, NEGATIVE)):
        llm, mask = theirs_llm(llava, prompt)
        assert_same(side[0][0], torch.cat([vlm, llm[:, mask[0].bool()]], dim=1))


def test_one_llama_is_in_memory(ours):
    backend = ours.backend
    embeddings = [
        m for m in backend.vlm.modules() if getattr(m, "num_embeddings", 0) > 1000 or hasattr(m, "layers")
    ]
    assert sum(hasattr(m, "embed_tokens") for m in embeddings) == 1
    assert not any("lm_head" in name for name, _ in backend.vlm.named_parameters())


def test_a_new_seed_encodes_nothing_again(ours, monkeypatch):
    images = pictures(2)
    first = ours.encode(PROMPT, NEGATIVE, images)
    monkeypatch.setattr(type(ours.backend), "prompt_states", None)
    monkeypatch.setattr(type(ours.backend), "image_states", None)
    again = ours.encode(PROMPT, NEGATIVE, images.clone())
    assert torch.equal(first.positive[0][0], again.positive[0][0])


def test_weights_left_off_the_device_give_the_same_states(ours, llava):
    """The host's partial load (lowvram) marks layers to be streamed; results must not change."""
    images = pictures(1)
    patcher = ours.backend.vlm_patcher
    patcher.load(device_to=torch.device("cpu"), lowvram_model_memory=1)
    assert patcher.model.model_lowvram
    uint8 = [(image * 255).round().to(torch.uint8) for image in images]
    assert_same(ours.backend.image_states(uint8), theirs_vlm(llava, images))
    patcher.detach()


def test_a_text_only_clip_folder_gives_the_pooled_state_too(llava, tmp_path):
    folder = write_clip_folder(tmp_path, text_only=True)
    pooled = load_encoders(llava, folder, "fp32").encode(PROMPT).positive[0][1]["pooled_output"]
    assert pooled.shape == (1, 96)


def test_damaged_weights_are_named(llava, clip):
    encoders = load_encoders(llava, clip, "fp32")
    encoders.backend.vlm.language_model.embed_tokens.weight.data[:] = float("nan")
    with pytest.raises(ValueError, match="LLM gave values that are not finite"):
        encoders.encode(PROMPT)


def test_a_control_token_in_the_prompt_is_named(ours):
    with pytest.raises(ValueError, match="negative prompt contains '<image>'"):
        ours.encode(PROMPT, "an <image> of a star")
