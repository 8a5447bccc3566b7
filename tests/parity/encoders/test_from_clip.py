"""Encoders made from stock CLIP + CLIP_VISION against those from Hugging Face folders, on shared tiny weights."""

import pytest
import torch
from magic141.tests.support import tiny_host_clip
from magic141.tools.host import use_comfyui
from torch import Tensor

use_comfyui()

from magic141.model_patches.bridge.encoders.from_clip import encoders_from_clip
from magic141.model_patches.bridge.encoders.socket import as_uint8, load_encoders
from magic141.model_patches.sizes import BUCKETS

PROMPT = "A (very) large red star, on a blue background, moves to the right. (fast:1.3) [slowly]"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tiny_host_clip.write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="module")
def from_folders(folders):
    return load_encoders(*folders, "fp32")


@pytest.fixture(scope="module")
def from_clip(folders):
    return encoders_from_clip(tiny_host_clip.host_clip(*folders), tiny_host_clip.host_clip_vision(folders[0]))


def pictures(count: int, height: int, width: int) -> Tensor:
    levels = torch.randint(0, 256, (count, height, width, 3), generator=torch.Generator().manual_seed(0))
    return levels / 255.0


def distance(ours, theirs) -> float:
    assert ours[0][0].shape == theirs[0][0].shape
    return float((ours[0][0] - theirs[0][0]).norm() / theirs[0][0].norm())


@pytest.mark.parametrize("prompt", [PROMPT, "", "star " * 400], ids=["weights syntax", "empty", "too long"])
def test_prompt_states_agree(from_folders, from_clip, prompt):
    a, b = from_folders.encode(prompt).positive, from_clip.encode(prompt).positive
    assert distance(a, b) < 1e-4
    assert torch.allclose(a[0][1]["pooled_output"], b[0][1]["pooled_output"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_picture_of_the_towers_size_agrees(from_folders, from_clip, count):
    images = pictures(count, 32, 32)
    a, b = (encoders.encode(PROMPT, "blurred", images) for encoders in (from_folders, from_clip))
    assert distance(a.positive, b.positive) < 1e-4
    assert distance(a.negative, b.negative) < 1e-4


@pytest.mark.parametrize(("width", "height"), [*BUCKETS["540p"], *BUCKETS["720p"], (51, 40)])
def test_picture_of_any_size_agrees(from_folders, from_clip, width, height):
    """Random pixels are the sharpest pattern there is: one column more or less moves all of them."""
    images = pictures(1, height, width)
    a, b = (encoders.backend.image_states(as_uint8(images)) for encoders in (from_folders, from_clip))
    assert float((a - b).norm() / b.norm()) < 1e-4


def test_a_picture_without_clip_vision_is_refused(folders):
    encoders = encoders_from_clip(tiny_host_clip.host_clip(*folders))
    assert encoders.encode(PROMPT).positive[0][0].shape[0] == 1
    with pytest.raises(ValueError, match="made without CLIP_VISION"):
        encoders.encode(PROMPT, "", pictures(1, 32, 32))


def test_a_vision_model_without_projector_is_refused(from_clip, folders):
    vision = tiny_host_clip.host_clip_vision(folders[0])
    vision.model.multi_modal_projector = None
    encoders = encoders_from_clip(from_clip.backend.clip, vision)
    with pytest.raises(ValueError, match="has no projector, but the LLaMA is 64 wide"):
        encoders.encode(PROMPT, "", pictures(1, 32, 32))


def test_another_clip_type_is_refused():
    class Other:
        cond_stage_model = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match="type hunyuan_video"):
        encoders_from_clip(Other())
