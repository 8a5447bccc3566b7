"""Our CLIP embeddings against transformers' own pipeline and the host's CLIP_VISION, on one set of tiny weights."""

import json
import shutil

import numpy as np
import pytest
import torch
from magic141.model_patches.retrieval.embed import ClipEmbedder, Preprocess, is_clip_folder, probe_image
from magic141.tests.support.tiny_encoders import IMAGE_SIZE, write_clip_folder
from magic141.tools.host import use_comfyui
from PIL import Image
from safetensors.torch import load_file, save_file

TEXTS = ["a large red star", "a small blue circle on black background moves right fast"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip_folder(tmp_path_factory.mktemp("clip") / "tiny_clip")


@pytest.fixture(scope="module")
def embedder(folder):
    return ClipEmbedder.from_folder(folder)


def smooth_picture(width, height):
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def processor_of_transformers(size):
    """Return CLIP's picture processor on Pillow, whichever version of transformers is here."""
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Processor
    except ImportError:
        from transformers import CLIPImageProcessor as Processor
    return Processor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


# Rounded up instead of down, every one of these is a pixel wider.
@pytest.mark.parametrize("size", [(61, 37), (37, 61), (832, 624), (640, 427), (427, 640)])
def test_resizing_is_transformers_own_bit_by_bit(size):
    pixels = np.random.default_rng(0).integers(0, 2, (size[1], size[0], 3), dtype=np.uint8) * 255
    image = Image.fromarray(pixels)
    preprocess = Preprocess(IMAGE_SIZE)
    got = preprocess.normalize(preprocess.prepare(image)[None])
    wanted = processor_of_transformers(IMAGE_SIZE)(images=image, return_tensors="pt").pixel_values
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(100, 60), (32, 32), (31, 200), (20, 20)])
def test_pictures_agree_with_transformers(folder, embedder, size):
    from transformers import CLIPModel

    image = smooth_picture(*size)
    pixel_values = processor_of_transformers(IMAGE_SIZE)(images=image, return_tensors="pt").pixel_values
    features = (
        CLIPModel.from_pretrained(folder, use_safetensors=True)
        .eval()
        .get_image_features(pixel_values=pixel_values)
    )
    wanted = getattr(features, "pooler_output", features)
    got = embedder.embed_prepared(embedder.prepare(image)[None])
    torch.testing.assert_close(got, wanted / wanted.norm(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000)])
def test_a_very_long_strip_is_cut_before_it_is_resized(size):
    """Resized whole, this one would fill 20 GB."""
    image = Image.new("RGB", size, (10, 200, 30))
    assert (Preprocess(224).prepare(image) == torch.tensor([10, 200, 30])).all()


def test_texts_agree_with_transformers_one_by_one(folder, embedder):
    from transformers import AutoTokenizer, CLIPModel

    model = CLIPModel.from_pretrained(folder, use_safetensors=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    got = embedder.embed_texts(TEXTS)
    for text, vector in zip(TEXTS, got, strict=True):
        features = model.get_text_features(**tokenizer(text, return_tensors="pt"))
        wanted = getattr(features, "pooler_output", features)[0]
        torch.testing.assert_close(vector, wanted / wanted.norm(), atol=1e-5, rtol=0)


def test_a_long_text_is_cut_off(embedder):
    assert embedder.embed_texts(["red star " * 200]).shape == (1, 32)


def test_preprocessing_is_read_from_the_folder(tmp_path):
    settings = {"size": {"shortest_edge": 48}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    for name, content in (
        ("preprocessor_config.json", settings),
        ("processor_config.json", {"image_processor": settings}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
        preprocess = Preprocess.from_folder(tmp_path, 32)
        assert (preprocess.image_size, preprocess.shortest_edge) == (32, 48)
        assert preprocess.mean.tolist() == [0.5] * 3
        (tmp_path / name).unlink()


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "vision_config": {}}))
    assert not is_clip_folder(tmp_path)
    with pytest.raises(ValueError, match="not a CLIP model folder"):
        ClipEmbedder.from_folder(tmp_path)


def test_the_probe_tells_models_apart(embedder, tmp_path):
    from magic141.model_patches.retrieval.records import Model

    other = ClipEmbedder.from_folder(write_clip_folder(tmp_path / "other", seed=7))
    probes = [Model("", e.embed_prepared(probe_image(IMAGE_SIZE))[0].tolist()) for e in (embedder, other)]
    assert not probes[0].same_as(probes[1])


def test_the_hosts_clip_vision_makes_the_same_vectors(folder, embedder):
    use_comfyui()
    import comfy.clip_vision
    from magic141.model_patches.bridge.retrieval.embedders import ClipVisionEmbedder
    from safetensors.torch import load_file

    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    host = comfy.clip_vision.ClipVisionModel({**vision, "model_type": "clip_vision_model"})
    weights = {
        key: value
        for key, value in load_file(folder / "model.safetensors").items()
        if key.startswith(("vision_model.", "visual_projection."))
    }
    missing, _ = host.load_sd(weights)
    assert not missing
    images = torch.stack([embedder.prepare(smooth_picture(100, 60)), probe_image(IMAGE_SIZE)[0]])
    got = ClipVisionEmbedder(host).embed_prepared(images)
    torch.testing.assert_close(got, embedder.embed_prepared(images), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_folder_is_said(folder, tmp_path, name):
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    content = (damaged / name).read_bytes()
    (damaged / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(
        ValueError, match=r"^(The tokenizer in )?damaged could not be loaded: |is not a CLIP model folder"
    ):
        ClipEmbedder.from_folder(damaged)


def test_weights_that_are_missing_are_not_drawn_from_a_hat(folder, tmp_path):
    lacking = tmp_path / "lacking"
    shutil.copytree(folder, lacking)
    weights = load_file(lacking / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the weights .* visual_projection\.weight"):
        ClipEmbedder.from_folder(lacking)
