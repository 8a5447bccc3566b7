"""Models of random weights, and an output folder of its own for every test."""

import pytest
import torch
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.tests.support.tiny_run import tiny_models


@pytest.fixture(scope="module")
def models():
    with torch.inference_mode():
        return tiny_models()


@pytest.fixture(autouse=True)
def output_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    with torch.inference_mode():
        yield tmp_path
