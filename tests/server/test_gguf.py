"""Sliding Window Extend on a GGUF file in a real ComfyUI: its video, and which runs go on."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from magic141.tests.server.test_sliding_window import PATIENCE_S, frames_of, made_video, window
from magic141.tests.server.test_window_identity import folder_of, graph_of, report_of
from magic141.tests.support.gguf_files import write_gguf
from magic141.tools.client import ComfyClient
from magic141.tools.server import PACK, ComfyServer, link_folder
from safetensors.torch import load_file

WEIGHTS = PACK / "embedded/models/diffusion_models/magic141_shapes_ti2v.safetensors"
FILE = "shapes.gguf"


@pytest.fixture(scope="module")
def gguf_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("gguf")
    write_gguf(base / "models/diffusion_models" / FILE, load_file(WEIGHTS))
    (base / "custom_nodes").mkdir()
    link_folder(base / "custom_nodes/gguf_pack", PACK / "tests/support/gguf_pack")
    with ComfyServer(base) as server:
        yield server


def with_gguf(prompt: dict) -> dict:
    """Return the prompt with the GGUF loader in the place of ours."""
    return {
        key: {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": FILE}}
        if node["class_type"] == "Magic141LoadModel"
        else node
        for key, node in json.loads(json.dumps(prompt)).items()
    }


def test_a_gguf_model_with_a_lora_makes_its_windows_and_goes_on_until_the_file_changes(gguf_server):
    client = ComfyClient(gguf_server.url)
    plain = graph_of(client.object_info(), "gguf")
    window(plain)["steps"] = 4
    packed = with_gguf(plain)
    runs = [client.run(prompt, timeout=PATIENCE_S) for prompt in (plain, packed, packed)]
    frames, exact = (
        frames_of(client.download(made_video(result, packed))).astype(float) for result in (runs[1], runs[0])
    )
    assert frames.shape == exact.shape
    assert np.abs(frames - exact).mean() < 4 < np.abs(frames - frames[::-1]).mean()
    assert folder_of(runs[1], packed) == folder_of(runs[2], packed) != folder_of(runs[0], plain)
    write_gguf(
        gguf_server.base / "models/diffusion_models" / FILE,
        {name: weight * 0.99 for name, weight in load_file(WEIGHTS).items()},
    )
    longer = json.loads(json.dumps(packed))
    window(longer)["length"] = 1.0
    changed = client.run(longer, timeout=PATIENCE_S)
    assert folder_of(changed, longer) != folder_of(runs[1], packed)
    assert not any("finished by an earlier run" in line for line in report_of(changed)["summary"])
