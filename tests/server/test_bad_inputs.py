"""Faults an artist can make: each gets a message that says what to change, and the server runs the next prompt."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from magic141.tools.client import ComfyClient, ExecutionFailed, Interrupted, PromptRejected
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.server import PACK, ComfyServer
from PIL import Image
from safetensors.torch import save_file

MODELS = "models/diffusion_models"
OLD_WORKFLOW = PACK / "tests" / "support" / "old_workflows" / "image_to_video_0_1.json"


class Graph:
    """The image-to-video prompt, with nodes found by their type."""

    def __init__(self, prompt: dict) -> None:
        self.prompt = prompt

    def node(self, kind: str) -> tuple[str, dict]:
        return next((key, node["inputs"]) for key, node in self.prompt.items() if node["class_type"] == kind)

    def set(self, kind: str, **inputs: object) -> None:
        self.node(kind)[1].update(inputs)

    def add(self, key: str, kind: str, **inputs: object) -> list:
        self.prompt[key] = {"class_type": kind, "inputs": inputs}
        return [key, 0]


@pytest.fixture(scope="module")
def working_prompt(object_info: dict) -> dict:
    workflow = json.loads(OLD_WORKFLOW.read_text(encoding="utf-8"))
    return workflow_to_prompt(workflow, object_info)


@pytest.fixture
def graph(working_prompt: dict) -> Graph:
    return Graph(copy.deepcopy(working_prompt))


def refused(client: ComfyClient, graph: Graph) -> str:
    """Return what the server says before it runs anything."""
    with pytest.raises(PromptRejected) as error:
        client.run(graph.prompt)
    return str(error.value)


def failed(client: ComfyClient, graph: Graph) -> str:
    """Return what the failing node says; it must be one of ours, and say it as a fault of the input."""
    with pytest.raises(ExecutionFailed) as error:
        client.run(graph.prompt)
    assert error.value.node_type.startswith("Magic141")
    assert error.value.exception_type in ("ValueError", "FileNotFoundError")
    return str(error.value)


def use_model(server: ComfyServer, graph: Graph, name: str) -> Path:
    """Point the loader at a file that the caller is about to write into the models folder."""
    folder = server.base / MODELS
    folder.mkdir(parents=True, exist_ok=True)
    graph.set("Magic141LoadModel", model_name=name)
    return folder / name


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"length": 14}, r"length is 14 frames; it must be 4n \+ 1.*Use 13 or 17"),
        ({"width": 70}, r"width is 70 px; it must be a multiple of 16. The nearest is 64"),
        ({"height": 100}, r"height is 100 px; it must be a multiple of 16"),
    ],
)
def test_a_size_the_model_cannot_make_is_refused_at_once(client, graph, inputs, message):
    graph.set("Magic141VLMImageEncode", **inputs)
    assert re.search(message, refused(client, graph))


@pytest.mark.parametrize("kind", ["Magic141LoadModel", "Magic141LoadEncoders"])
def test_a_missing_file_is_named(client, graph, kind):
    name = "model_name" if kind == "Magic141LoadModel" else "vlm_folder"
    graph.set(kind, **{name: "gone.safetensors"})
    assert "gone.safetensors" in refused(client, graph)


def test_a_checkpoint_of_another_architecture_is_named(client, server, graph):
    weights = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3)}
    save_file(weights, use_model(server, graph, "stable.safetensors"))
    assert re.search(
        r"stable\.safetensors is a Stable Diffusion.*HunyuanVideo layout", refused(client, graph)
    )


def test_a_truncated_file_is_named(client, server, graph):
    path = use_model(server, graph, "truncated.safetensors")
    save_file({"img_in.proj.weight": torch.zeros(128, 33, 1, 2, 2)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    assert re.search(r"truncated\.safetensors is .*bytes.*were expected", refused(client, graph))


def test_a_corrupt_file_is_named(client, server, graph):
    use_model(server, graph, "corrupt.safetensors").write_bytes(bytes(range(256)) * 64)
    assert "corrupt.safetensors is damaged" in refused(client, graph)


class Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.path, "executed")


def test_a_pth_that_would_execute_code_is_not_opened(client, server, graph, tmp_path):
    proof = tmp_path / "executed"
    execute, arguments = Payload(tmp_path / "control").__reduce__()
    execute(*arguments)
    assert (tmp_path / "control").is_file()
    torch.save({"state_dict": {"x": Payload(proof)}}, use_model(server, graph, "evil.pth"))
    assert re.search(r"evil\.pth would execute code", refused(client, graph))
    assert not proof.exists()


def test_a_picture_of_one_pixel_is_refused_before_the_encoders_are_loaded(client, graph, tmp_path):
    path = tmp_path / "one_pixel.png"
    Image.new("RGB", (1, 1)).save(path)
    graph.set("LoadImage", image=client.upload_image(path))
    graph.set("Magic141LoadEncoders", precision="bf16")  # unlike other tests, so that no cache has them
    ran = []
    with pytest.raises(ExecutionFailed, match=r"VLMImageEncode: image is 1 x 1 px; at least \d+ px"):
        client.run(graph.prompt, on_event=lambda kind, data: ran.append((kind, data.get("node"))))
    assert ("executing", graph.node("Magic141VLMImageEncode")[0]) in ran
    assert ("executing", graph.node("Magic141LoadEncoders")[0]) not in ran


def test_a_picture_with_alpha_is_refused(client, graph):
    loader = graph.node("LoadImage")[0]
    image = graph.add("alpha", "JoinImageWithAlpha", image=[loader, 0], alpha=[loader, 1])
    graph.set("Magic141VLMImageEncode", image=image)
    assert re.search(r"alpha channel; 3 channels", failed(client, graph))


def test_cancel_stops_within_one_step_and_the_next_prompt_runs(client, graph, working_prompt):
    # a step must take longer than the request to cancel
    graph.set("Magic141VLMImageEncode", width=256, height=256)
    graph.set("Magic141FewStepSampler", steps=1000, seed=12345)
    seen = []

    def cancel_at_the_third_step(kind: str, data: dict) -> None:
        if kind == "progress" and data["max"] == 1000:
            seen.append(data["value"])
            if len(seen) == 3:
                client.interrupt()

    with pytest.raises(Interrupted):
        client.run(graph.prompt, on_event=cancel_at_the_third_step)
    assert max(seen) <= seen[2] + 2, "more than the running step was finished after the cancel"
    assert client.run(working_prompt).files()
