"""The bench of full size: files that a kill left half, refusals before a stage, and what a process is seen to take."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from magic141.tests.bench import fullsize
from magic141.tests.bench.support.fullsize_files import _released_name, write_file
from magic141.tests.bench.support.fullsize_graphs import Graph
from magic141.tests.bench.support.fullsize_stages import STAGES, NodeClock
from magic141.tests.bench.support.fullsize_watch import Watch
from safetensors.torch import load_file

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
HOLD_100_MB = "import sys; input(); held = bytearray(10**8); print('held', flush=True); input()"


def test_a_half_written_file_is_written_again_and_a_whole_one_stays(tmp_path):
    path = tmp_path / "a" / "weights.safetensors"
    path.parent.mkdir()
    path.with_name(path.name + ".part").write_bytes(b"half")
    write_file(path, {"big": (1200, 1000), "small": (3,)})
    weights = load_file(path)
    assert {key: tuple(tensor.shape) for key, tensor in weights.items()} == {
        "big": (1200, 1000),
        "small": (3,),
    }
    assert weights["big"].dtype == torch.bfloat16
    assert weights["big"].float().std() > 0
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    before = path.stat().st_mtime_ns
    write_file(path, {"big": (1200, 1000), "small": (3,)})
    assert path.stat().st_mtime_ns == before


def test_weights_have_the_names_of_released_folders():
    assert _released_name("model.language_model.layers.0.mlp.up_proj.weight") == (
        "language_model.model.layers.0.mlp.up_proj.weight"
    )
    assert _released_name("lm_head.weight") == "language_model.lm_head.weight"
    assert (
        _released_name("model.multi_modal_projector.linear_1.bias") == "multi_modal_projector.linear_1.bias"
    )
    tower = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"
    assert _released_name(f"model.{tower}") == tower
    assert _released_name("model.vision_tower.encoder.layers.0.mlp.fc1.bias") == tower


@on_linux
def test_too_little_disk_or_memory_is_said_before_a_stage(tmp_path, monkeypatch):
    bench = fullsize.Bench(tmp_path)
    monkeypatch.setattr(fullsize.shutil, "disk_usage", lambda path: SimpleNamespace(free=30e9))
    with pytest.raises(fullsize.NotEnough, match=r"recognize needs 38 GB of free disk .* 30 are free"):
        bench.run("recognize")
    monkeypatch.setattr(fullsize.shutil, "disk_usage", lambda path: SimpleNamespace(free=60e9))
    monkeypatch.setattr(fullsize.psutil, "virtual_memory", lambda: SimpleNamespace(available=0.5e9))
    with pytest.raises(fullsize.NotEnough, match=r"recognize needs 1 GB of free memory; 0\.5 are free"):
        bench.run("recognize")
    with pytest.raises(
        fullsize.NotEnough, match=r"load_int8 needs the int8 file\. Run the stage quantize first"
    ):
        bench.run("load_int8")
    assert not bench.models.exists()


def test_finished_stages_are_kept_and_files_go_when_no_stage_needs_them(tmp_path):
    (tmp_path / "finished.json").write_text(json.dumps({"recognize": {"recognize_seconds": 1.0}}))
    bench = fullsize.Bench(tmp_path)
    assert bench.finished == {"recognize": {"recognize_seconds": 1.0}}
    for file in ("dit", "vae", "int8"):
        bench.path(file).parent.mkdir(parents=True, exist_ok=True)
        bench.path(file).write_bytes(b"")
    bench.delete_unneeded(["sample_1_step"])
    assert [bench.path(file).exists() for file in ("dit", "vae", "int8")] == [False, True, True]


@on_linux
def test_what_a_process_takes_is_seen():
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_100_MB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with Watch(process.pid) as watch:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "held\n"
            watch._end.wait(0.5)
        process.stdin.write("\n")
    assert 95 < watch.extra_mb < 120
    assert watch.own_mb >= watch.extra_mb
    assert watch.resident_gb > 0.095
    assert 95 < watch.largest_mb < 150


def test_nodes_are_timed_and_widgets_have_their_defaults():
    seconds: dict[str, float] = {}
    clock = NodeClock(seconds)
    for node in ("1", "2", None):
        clock("executing", {"node": node})
    assert seconds.keys() == {"1", "2"}
    info = {"N": {"input": {"required": {
        "a": ["INT", {"default": 4}], "b": ["COMBO", {"options": ["x", "y"]}], "c": [["p", "q"]], "m": ["MODEL"],
    }, "optional": {"d": ["FLOAT", {"default": 0.5}]}}}}  # fmt: skip
    graph = Graph(info)
    graph.add("N", m=("7", 0))
    assert graph.nodes["1"]["inputs"] == {"a": 4, "b": "x", "c": "p", "d": 0.5, "m": ["7", 0]}


def test_every_stage_has_its_files():
    assert {file for stage in STAGES.values() for file in stage.files} == {*fullsize.FILES, "int8"}
