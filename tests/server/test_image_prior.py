"""Image index, retrieval and the lazy choice in a real ComfyUI."""

import shutil

import pytest
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tools.client import ExecutionFailed, PromptRejected
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def pets(server):
    """Put a tiny CLIP and a folder of plain pictures, one of them broken, under the server's folders."""
    clip, folder = server.base / "models/text_encoders/tiny_retrieval_clip", server.base / "input/pets"
    write_clip_folder(clip)
    folder.mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 24), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    yield folder
    shutil.rmtree(clip)
    shutil.rmtree(folder)


def build(folder="input/pets", index="pets"):
    inputs = {"folder": folder, "index_name": index, "clip": "tiny_retrieval_clip"}
    return {"class_type": "Magic141BuildImageIndex", "inputs": inputs | {"batch_size": 4, "rebuild": False}}


def retrieve(index, image=None, **values):
    inputs = {"index": index, "clip": "tiny_retrieval_clip", "prompt": "a red star", "count": 1}
    inputs |= {"threshold": -1.0, "diversity": 0.0} | values
    return {
        "class_type": "Magic141RetrieveImagePrior",
        "inputs": inputs | ({"image": image} if image else {}),
    }


def prior(source, **wired):
    return {"class_type": "Magic141ImagePrior", "inputs": {"source": source} | wired}


def solid(colour):
    return {
        "class_type": "EmptyImage",
        "inputs": {
            "width": 32,
            "height": 24,
            "batch_size": 1,
            "color": int.from_bytes(bytes(COLOURS[colour]), "big"),
        },
    }


def preview(source):
    return {"class_type": "PreviewImage", "inputs": {"images": source}}


def text(source):
    return {"class_type": "PreviewAny", "inputs": {"source": source}}


@pytest.mark.usefixtures("pets")
def test_a_folder_is_indexed_and_searched_in_one_run(client):
    prompt = {
        "1": build(),
        "2": solid("blue"),
        "3": retrieve(["1", 0], ["2", 0], count=3),
        "4": preview(["3", 0]),
        "5": text(["3", 3]),
        "6": text(["1", 1]),
    }
    outputs = client.run(prompt).outputs
    assert len(outputs["4"]["images"]) == 3
    report = outputs["5"]["text"][0]
    assert report.splitlines()[0].endswith("input/pets/blue.png")
    assert "3 new" in outputs["6"]["text"][0]
    assert "skipped broken.png: not a picture" in outputs["6"]["text"][0]


@pytest.mark.usefixtures("pets")
def test_an_unchanged_folder_is_not_even_looked_at_by_the_model(client):
    client.run({"1": build()})
    client.run({"1": build()})
    ran = []
    client.run(
        {"1": build()}, on_event=lambda kind, data: ran.append(data.get("node")) if kind == "executing" else 0
    )
    assert "1" not in ran


@pytest.mark.usefixtures("pets")
def test_only_the_branch_that_is_used_runs(client):
    """The retrieved branch asks an index that does not exist: run, it would fail."""
    graph = {"1": retrieve("no such index"), "2": solid("red")}
    wired = {"retrieved": ["1", 0], "uploaded": ["2", 0]}
    result = client.run(
        graph | {"3": prior("uploaded", **wired), "4": preview(["3", 0]), "5": text(["3", 1])}
    )
    assert result.outputs["5"]["text"] == ["uploaded"]
    with pytest.raises(ExecutionFailed, match="There is no image index 'no such index'"):
        client.run(graph | {"3": prior("first connected", **wired), "4": preview(["3", 0])})


@pytest.mark.usefixtures("pets")
@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"1": build(folder="/etc")}, "outside what ComfyUI may read"),
        ({"1": build(folder="input/../..")}, "outside what ComfyUI may read"),
        ({"1": build(folder="input/nowhere")}, "There is no folder"),
        ({"1": build(index="../pets")}, "cannot be the name"),
        ({"1": prior("retrieved"), "2": preview(["1", 0])}, "nothing is connected to 'retrieved'"),
    ],
)
def test_faults_are_said_before_the_run(client, graph, message):
    with pytest.raises(PromptRejected, match=message):
        client.run(graph)


@pytest.mark.usefixtures("pets")
def test_nothing_that_fits_is_said(client):
    client.run({"1": build()})
    with pytest.raises(ExecutionFailed, match=r"Nothing in 'input/pets' matches"):
        client.run({"1": retrieve("pets", threshold=0.999), "2": preview(["1", 0])})
