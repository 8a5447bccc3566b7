"""Build Training Set and Distill to Few Steps in a real ComfyUI, on four clips of the shapes world."""

import io
import json
import shutil
from pathlib import Path

import av
import pytest
import torch
from magic141.lab.world.export_videos import export
from magic141.tests.support.distill_graphs import NODE, STEPS, build, distill, node, sampled
from magic141.tests.support.tiny_videos import write_captioned, write_video
from magic141.tools.client import ExecutionFailed, Interrupted, PromptRejected
from magic141.tools.demo import cut_long_videos, videos_of
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.templates import template
from safetensors import safe_open
from safetensors.torch import load_file

PATIENCE_S = 1800
"""A shared machine may give a server a fraction of a core."""


@pytest.fixture(scope="module")
def folder(server):
    """Four captioned clips, and three files that no training can use."""
    folder = server.base / "input" / "shapes"
    export(folder, count=4, num_frames=5, captions="mixed")
    write_captioned(folder / "still.mp4", "a still", num_frames=1)
    write_video(folder / "silent.mp4")
    (folder / "broken.mp4").write_bytes(b"no video" * 99)
    (folder / "broken.txt").write_text("broken")
    yield folder
    shutil.rmtree(folder)


def text_of(result, key: str) -> str:
    return "\n".join(result.outputs[key]["text"])


def manifest(server) -> dict:
    return json.loads((server.base / "models/magic141_training_sets/tiny/set.json").read_text())


def shards(server) -> dict[str, int]:
    root = server.base / "models/magic141_training_sets/tiny"
    return {
        path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in root.glob("*/*.safetensors")
    }


@pytest.fixture(scope="module")
def built(server, folder):
    """The set, built once; and what the report said."""
    from magic141.tools.client import ComfyClient

    return text_of(ComfyClient(server.url).run(build(), timeout=PATIENCE_S), "set")


def test_the_set_holds_what_can_be_used_and_says_the_rest(server, built):
    assert "4 videos with 4 captions: 4 windows of 5 frames, 64 x 64 px" in built
    assert "4 videos encoded now, 0 reused, 3 files skipped" in built
    assert "skipped still.mp4: it is a still picture" in built
    assert "skipped silent.mp4: has no caption" in built
    assert "skipped broken.mp4: it cannot be read as a video" in built
    assert manifest(server)["complete"]
    video = load_file(next((server.base / "models/magic141_training_sets/tiny/videos").iterdir()))
    assert video["latents"].shape == (1, 16, 2, 8, 8)
    assert 0.2 < float(video["latents"].float().std()) < 3
    assert video["image_states"].shape[:3] == (1, 1, 18)


def test_building_again_encodes_only_what_is_new(server, client, folder, built):
    before = shards(server)
    write_captioned(folder / "wide.mp4", "stripes move", num_frames=5, width=128, height=64)
    (folder / "00000.txt").write_text("another caption")
    text = text_of(client.run(build(), timeout=PATIENCE_S), "set")
    assert "1 videos encoded now, 4 reused" in text
    assert "1 videos have another shape: scaled to cover 64 x 64 px and cut at the center; up to 50%" in text
    after = shards(server)
    videos = {name: time for name, time in before.items() if name.startswith("videos")}
    assert {name: after.get(name) for name in videos} == videos
    assert len(after) == len(before) + 2, "a video and its caption; in place of the old caption is a new one"


def test_other_settings_under_the_same_name_are_refused(client, built):
    with pytest.raises(ExecutionFailed, match=r"num_frames was 5 and is now 9.*turn on 'replace'"):
        client.run(build(num_frames=9), timeout=PATIENCE_S)


def test_a_folder_with_nothing_to_learn_from_is_refused(server, client):
    empty = server.base / "input" / "nothing"
    write_video(empty / "a.mp4")
    with pytest.raises(ExecutionFailed, match="None of the 1 videos in 'input/nothing' has a caption"):
        client.run(build("input/nothing", set_name="nothing"), timeout=PATIENCE_S)


def test_train_cancel_resume_and_load_with_the_stock_loader(server, client, built):
    run = server.base / "output/magic141_distill/shapes student"

    def cancel_at_the_second_step(kind: str, data: dict) -> None:
        if kind == "progress" and data["max"] == STEPS and data["value"] == 2:
            client.interrupt()

    with pytest.raises(Interrupted):
        client.run(distill(), on_event=cancel_at_the_second_step, timeout=PATIENCE_S)
    (checkpoint,) = (run / "checkpoints").iterdir()
    saved = int(checkpoint.name.removeprefix("step-"))
    assert 2 <= saved <= 3, "more than the running step was finished after the cancel"
    assert not (server.base / "models/loras/shapes student.safetensors").exists()

    both = build(image_states=True) | distill() | sampled(["distill", 0], "node")
    result = client.run(both, timeout=PATIENCE_S)
    report = text_of(result, "distill")
    assert f"{STEPS} of {STEPS} updates" in report
    assert f"resumed at step {saved}" in report
    assert result.previews > 0
    assert [row["step"] for row in log_of(run)] == [1, 2, 3, 4]
    assert (run / "samples/step-000004.mp4").is_file()

    with pytest.raises(
        ExecutionFailed, match=r"magic141_distill/shapes student holds .*: seed was 0 and is now 5"
    ):
        client.run(distill(training_seed=5), timeout=PATIENCE_S)

    lora = server.base / "models/loras/shapes student.safetensors"
    with safe_open(lora, "pt") as file:
        assert json.loads(file.metadata()["magic141_distill"])["few_steps"] == 2
    stock = node(
        "LoraLoaderModelOnly", model=["model", 0], lora_name="shapes student.safetensors", strength_model=1.0
    )
    plain = (
        build()
        | distill()
        | {"stock": stock}
        | sampled(["stock", 0], "stock")
        | sampled(["model", 0], "base")
    )
    del plain["distill"]
    client.run(plain, timeout=PATIENCE_S)
    latents = {name: latent_of(server, name) for name in ("node", "stock", "base")}
    assert torch.equal(latents["node"], latents["stock"])
    assert not torch.allclose(latents["node"], latents["base"], atol=1e-3)


def test_a_student_starts_as_a_model_with_a_lora(server, client, built):
    with_lora = node(
        "LoraLoaderModelOnly",
        model=["model", 0],
        lora_name="magic141_shapes_ti2v_2step.safetensors",
        strength_model=1.0,
    )
    slow = {
        "run_name": "from a lora",
        "total_steps": 1,
        "ode_updates": 0,
        "learning_rate": 1e-8,
        "sample_every": 0,
    }
    started = {"lora": with_lora, **distill(student=["lora", 0], rank=16, **slow)}
    both = build() | started | sampled(["distill", 0], "started") | sampled(["lora", 0], "lora")
    client.run(both, timeout=PATIENCE_S)
    assert torch.allclose(latent_of(server, "started"), latent_of(server, "lora"), atol=1e-2)
    with pytest.raises(ExecutionFailed, match=r"of the difference would be lost\. Raise rank"):
        client.run(
            {"lora": with_lora, **distill(student=["lora", 0], run_name="low", rank=2)}, timeout=PATIENCE_S
        )
    with pytest.raises(ExecutionFailed, match="The MODEL at student is the same as the one at model"):
        client.run(distill(student=["model", 0], run_name="same"), timeout=PATIENCE_S)


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def latent_of(server, name: str) -> torch.Tensor:
    (path,) = (server.base / "output/latents").glob(f"{name}_*.latent")
    return load_file(path)["latent_tensor"]


def test_the_workflow_trains_and_samples_with_the_student(client, object_info):
    workflow = json.loads(template("magic141_distill_to_few_steps").read_text(encoding="utf-8"))
    prompt = workflow_to_prompt(workflow, object_info)
    cut_long_videos(prompt, 0.5)
    key, settings = next((k, n["inputs"]) for k, n in prompt.items() if n["class_type"] == NODE)
    settings |= {
        "run_name": "workflow",
        "total_steps": 1,
        "ode_updates": 1,
        "critic_updates": 1,
        "sample_clips": 1,
    }
    result = client.run(prompt, workflow=workflow, timeout=PATIENCE_S)
    assert "2 of 2 updates of 4 clips" in text_of(result, key)
    shapes = {video["filename"][:16]: shape_of(client.download(video)) for video in videos_of(result)}
    assert shapes == {"magic141_before_": (13, 128, 64), "magic141_student": (13, 64, 64)}


def shape_of(video: bytes) -> tuple[int, int, int]:
    with av.open(io.BytesIO(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return len(frames), *frames[0].shape[:2]


def test_full_weights_open_in_the_loader(server, client, built):
    settings = {"method": "fine-tune (flow matching)", "train": "full", "run_name": "tuned", "total_steps": 1}
    client.run(distill(**settings, sample_every=0), timeout=PATIENCE_S)
    prompt = build() | distill() | sampled(["model", 0], "tuned")
    del prompt["distill"]
    prompt["model"]["inputs"]["model_name"] = "tuned.safetensors"
    client.run(prompt, timeout=PATIENCE_S)
    assert torch.isfinite(latent_of(server, "tuned")).all()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"run_name": "a/b"}, "cannot be the name of a run"),
        ({"method": "guidance in one pass (CFG distillation)"}, "there is no guidance to distill"),
    ],
)
def test_faults_are_said_before_the_run(client, inputs, message):
    with pytest.raises(PromptRejected, match=message):
        client.run(distill(**inputs))


def test_a_set_that_is_not_there_is_said(client):
    with pytest.raises(ExecutionFailed, match="There is no training set 'gone'"):
        client.run(distill(training_set="gone"), timeout=PATIENCE_S)
