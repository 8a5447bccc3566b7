"""The quantizing nodes in a running ComfyUI, and what they say when something is wrong."""

import json
import time

import pytest
import torch
from magic141.model_patches.int8.file import PROVENANCE
from magic141.tests.support.int8_shapes import write_random_dit
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_wan import tiny_wan
from magic141.tools.client import ExecutionFailed, Interrupted, PromptRejected
from safetensors import safe_open
from safetensors.torch import load_file, save_file

MODEL = "int8_nodes_dit.safetensors"
QUANTIZE = {
    "mode": "int8 weight-only (paper)",
    "granularity": "per row",
    "dit": True,
    "llm": True,
    "vlm": True,
    "save_as": "",
    "overwrite": False,
    "all_linear": False,
}
FILE = {
    "mode": "int8 weight-only (paper)",
    "granularity": "per row",
    "layout": "ComfyUI",
    "overwrite": False,
    "all_linear": False,
    "dry_run": False,
}


@pytest.fixture(scope="module")
def models(server):
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tiny_dit(), folder / MODEL)
    return folder


def stock_loader(name=MODEL):
    return {"class_type": "UNETLoader", "inputs": {"unet_name": name, "weight_dtype": "default"}}


def report(original, quantized, **more):
    inputs = {"original": original, "quantized": quantized, "seed": 0, **more}
    return {"class_type": "Magic141QuantizationReport", "inputs": inputs}


def quantize_file(**inputs):
    return {"1": {"class_type": "Magic141QuantizeFile", "inputs": {"model_name": MODEL} | FILE | inputs}}


def error_in(result, node):
    line = next(
        line for line in result.outputs[node]["text"][0].splitlines() if line.startswith("Relative error")
    )
    return float(line.split(": ")[1].split("%")[0]) / 100


def test_quantize_save_and_open_with_stock_and_ours(client, models):
    quantize = {
        "class_type": "Magic141Int8Quantize",
        "inputs": QUANTIZE | {"model": ["1", 0], "save_as": "int8_nodes_saved"},
    }
    plot = {"class_type": "PreviewImage", "inputs": {"images": ["3", 1]}}
    result = client.run({"1": stock_loader(), "2": quantize, "3": report(["1", 0], ["2", 0]), "4": plot})
    assert error_in(result, "3") < 0.013
    assert len(result.outputs["4"]["images"]) == 1
    saved = models / "int8_nodes_saved.safetensors"
    with safe_open(saved, framework="pt") as file:
        assert json.loads(file.metadata()[PROVENANCE])["method"]["mode"] == "weight_only"
    ours = {"class_type": "Magic141LoadModel", "inputs": {"model_name": saved.name}}
    result = client.run(
        {
            "1": stock_loader(),
            "2": stock_loader(saved.name),
            "3": ours,
            "4": report(["1", 0], ["2", 0]),
            "5": report(["1", 0], ["3", 0]),
        }
    )
    assert error_in(result, "4") < 0.02
    assert error_in(result, "5") < 0.013


def test_quantize_file_names_overwrites_and_refuses(client, models):
    client.run(quantize_file(save_as=""))
    written = models / "int8_nodes_dit_int8.safetensors"
    assert "single_blocks.0.linear1.comfy_quant" in load_file(written)
    before = written.read_bytes()
    with pytest.raises(PromptRejected, match="exists already"):
        client.run(quantize_file(save_as=""))
    assert written.read_bytes() == before
    client.run(quantize_file(save_as="", overwrite=True, mode="int4 weight-only"))
    client.run(quantize_file(save_as="", overwrite=True))
    with pytest.raises(ExecutionFailed, match="quantized already"):
        client.run(quantize_file(model_name=written.name, save_as="again"))
    assert not (models / "again.safetensors").exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "model.gguf"])
def test_names_outside_the_folder_are_refused(client, models, name):
    with pytest.raises(PromptRejected, match=r"diffusion_models|written as"):
        client.run(quantize_file(save_as=name))


def test_damaged_and_missing_files(client, models):
    weights = tiny_dit()
    weights["single_blocks.0.linear1.weight"][0, 0] = torch.nan
    save_file(weights, models / "int8_nodes_nan.safetensors")
    with pytest.raises(ExecutionFailed, match=r"single_blocks\.0\.linear1\.weight.*NaN or Inf"):
        client.run(quantize_file(model_name="int8_nodes_nan.safetensors", save_as="from_nan"))
    assert not list(models.glob("*from_nan*"))
    with pytest.raises(PromptRejected):
        client.run(quantize_file(model_name="none.safetensors", save_as=""))


def test_another_family_is_planned_and_then_quantized(client, models):
    save_file(tiny_wan(), models / "int8_nodes_wan.safetensors")
    wan = {"model_name": "int8_nodes_wan.safetensors", "save_as": ""}
    said = client.run(quantize_file(dry_run=True, **wan)).outputs["1"]["text"][0]
    assert said.startswith("WAN21_T2V: 10 layers would be quantized")
    assert not (models / "int8_nodes_wan_int8.safetensors").exists()
    client.run(quantize_file(**wan))
    written = load_file(models / "int8_nodes_wan_int8.safetensors")
    assert "blocks.0.self_attn.q.comfy_quant" in written
    loaders = {
        "1": stock_loader("int8_nodes_wan.safetensors"),
        "2": stock_loader("int8_nodes_wan_int8.safetensors"),
    }
    with pytest.raises(ExecutionFailed, match="connect positive"):
        client.run(loaders | {"3": report(["1", 0], ["2", 0])})


def test_the_worst_layers_of_a_report_are_kept(client, models):
    graph = {
        "1": stock_loader(),
        "2": {"class_type": "Magic141Int8Quantize", "inputs": QUANTIZE | {"model": ["1", 0]}},
        "3": report(["1", 0], ["2", 0], rank_layers=True),
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 3]}},
        "5": quantize_file(save_as="int8_nodes_kept", keep_worst=2, ranking=["3", 3])["1"],
    }
    ran = client.run(graph)
    note, *ranking = ran.outputs["4"]["text"][0].splitlines()
    worst = [line.split(":")[0] for line in ranking[:2]]
    assert note == "# error of the output with this layer alone quantized; probe of seed 0, random text"
    assert len(ranking) == 13
    assert ran.outputs["5"]["text"][0].endswith(f"Kept as they were: {', '.join(worst)}.")
    result = client.run(
        {
            "1": stock_loader(),
            "2": stock_loader("int8_nodes_kept.safetensors"),
            "3": report(["1", 0], ["2", 0]),
        }
    )
    assert f"Kept as they were: {', '.join(worst)} ({note[2:]})" in result.outputs["3"]["text"][0]


def test_keeping_without_a_ranking_is_refused(client, models):
    with pytest.raises(ExecutionFailed, match="keep_worst is 2, but ranking names 0 layers"):
        client.run(quantize_file(save_as="x", keep_worst=2))


def test_impossible_combination_is_said_before_the_run(client, models):
    with pytest.raises(PromptRejected, match="per row"):
        client.run(quantize_file(save_as="x", mode="int8 W8A8 (fast, rotated)", granularity="per tensor"))


def test_prompts_of_older_versions_run_and_say_what_is_ignored(client, models):
    old = quantize_file(save_as="int8_nodes_old", engine="quanto")
    text = client.run(old).outputs["1"]["text"][0]
    assert "13 layers quantized" in text
    assert text.endswith("no longer has these settings and left them out: engine.")


def test_nothing_connected_is_said(client, models):
    quantize = {"class_type": "Magic141Int8Quantize", "inputs": QUANTIZE}
    show = {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}}
    with pytest.raises(ExecutionFailed, match="Nothing to quantize"):
        client.run({"1": quantize, "2": show})


def test_cancel_leaves_no_file(client, models):
    write_random_dit(models / "int8_nodes_big.safetensors", hidden_size=1024, depth=2, depth_single=2)

    def cancel(kind, data):
        if kind == "progress":
            client.interrupt()

    with pytest.raises(Interrupted):
        client.run(
            quantize_file(model_name="int8_nodes_big.safetensors", save_as="cancelled"), on_event=cancel
        )
    time.sleep(0.2)
    assert not [path.name for path in models.iterdir() if "cancelled" in path.name]
