"""The live preview of the embedded models shows the video's own colors, through the host's previewer."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import latent_preview
from comfy.cli_args import LatentPreviewMethod
from magic141.lab import world
from magic141.lab.models.preview import PREVIEW
from magic141.lab.models.shipped import shipped_vae_weights
from magic141.lab.models.taehv import narrow_network
from magic141.lab.models.vae import psnr_db
from magic141.model_patches.bridge.loading import load_magic141_model
from magic141.tests.support.shapes_models import DIT_FILE


@pytest.fixture(autouse=True)
def previews_on(monkeypatch):
    monkeypatch.setattr(latent_preview.args, "preview_method", LatentPreviewMethod.Auto)


def preview(model, latent):
    previewer = latent_preview.get_previewer(torch.device("cpu"), model.model.latent_format)
    return torch.from_numpy(np.array(previewer.decode_latent_to_preview(latent))) / 255


def test_preview_looks_like_the_decoded_frame():
    model, _ = load_magic141_model(DIT_FILE)
    vae = narrow_network(shipped_vae_weights())
    scenes = world.sample_scenes(8, generator=torch.Generator().manual_seed(141), split="test")
    with torch.no_grad():
        latents = vae.encode(world.render_clip(scenes, 5))
        frames = vae.decode(latents)[:, 0]
    shrunk = torch.nn.functional.avg_pool2d(frames.clamp(0, 1), 8).permute(0, 2, 3, 1)
    shown = torch.stack([preview(model, latent[None]) for latent in latents])
    assert psnr_db(shown, shrunk).min() >= 15


def test_colors_belong_to_names_that_begin_alike_and_to_one_model(tmp_path):
    shutil.copy(DIT_FILE, tmp_path / "magic141_shapes_of_mine.safetensors")
    shutil.copy(DIT_FILE, tmp_path / "another.safetensors")
    shutil.copy(PREVIEW, tmp_path)
    mine, _ = load_magic141_model(tmp_path / "magic141_shapes_of_mine.safetensors")
    other, _ = load_magic141_model(tmp_path / "another.safetensors")
    own = json.loads(PREVIEW.read_text(encoding="utf-8"))["latent_rgb_factors"]
    assert mine.model.latent_format.latent_rgb_factors == own
    assert other.model.latent_format.latent_rgb_factors != own
    assert type(other.model.latent_format).latent_rgb_factors != own


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "PreviewColors needs the fields"),
        (
            '{"latent_rgb_factors": [[1.0, 1.0, 1.0]], "latent_rgb_factors_bias": [0.0, 0.0, 0.0]}',
            "16 rows of 3",
        ),
        ('{"latent_rgb_factors": [[NaN]], "latent_rgb_factors_bias": [0.0]}', "latent_rgb_factors of"),
        ("{", "not JSON"),
    ],
)
def test_a_damaged_file_costs_a_line_in_the_log(tmp_path, caplog, text, said):
    shutil.copy(DIT_FILE, tmp_path / "m.safetensors")
    (tmp_path / "m.preview.json").write_text(text, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        load_magic141_model(tmp_path / "m.safetensors")
    assert said in caplog.text
    assert "m.preview.json cannot be used" in caplog.text
