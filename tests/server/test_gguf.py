"""Sliding Window Extend on a GGUF file in a real ComfyUI: its video, and which runs go on."""

import json

import numpy as np
from magic141.tests.server.test_sliding_window import PATIENCE_S, frames_of, made_video, window
from magic141.tests.server.test_window_identity import folder_of, graph_of, report_of
from magic141.tests.support.gguf_files import write_gguf
from magic141.tools.server import PACK
from safetensors.torch import load_file

WEIGHTS = PACK / "embedded/models/diffusion_models/magic141_shapes_ti2v.safetensors"
FILE = "shapes.gguf"


def with_gguf(prompt: dict) -> dict:
    """Return the prompt with the GGUF loader in the place of ours."""
    return {
        key: {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": FILE}}
        if node["class_type"] == "Magic141LoadModel"
        else node
        for key, node in json.loads(json.dumps(prompt)).items()
    }


def test_a_gguf_model_with_a_lora_makes_its_windows_and_goes_on_until_the_file_changes(tab, graph_server):
    file = graph_server.base / "models/diffusion_models" / FILE
    write_gguf(file, load_file(WEIGHTS))
    plain = graph_of(tab.object_info(), "gguf")
    window(plain)["steps"] = 4
    packed = with_gguf(plain)
    runs = [tab.run(prompt, timeout=PATIENCE_S) for prompt in (plain, packed, packed)]
    frames, exact = (
        frames_of(tab.download(made_video(result, packed))).astype(float) for result in (runs[1], runs[0])
    )
    assert frames.shape == exact.shape
    assert np.abs(frames - exact).mean() < 4 < np.abs(frames - frames[::-1]).mean()
    assert folder_of(runs[1], packed) == folder_of(runs[2], packed) != folder_of(runs[0], plain)
    write_gguf(file, {name: weight * 0.99 for name, weight in load_file(WEIGHTS).items()})
    longer = json.loads(json.dumps(packed))
    window(longer)["length"] = 1.0
    changed = tab.run(longer, timeout=PATIENCE_S)
    assert folder_of(changed, longer) != folder_of(runs[1], packed)
    assert not any("finished by an earlier run" in line for line in report_of(changed)["summary"])
