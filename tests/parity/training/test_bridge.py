"""What is said before a training starts: packages, names, files of others, runs of other settings."""

import errno
import importlib.util
import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from magic141.model_patches.store import files
from magic141.model_patches.store.disk import DiskRefused
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.twin import missing_packages
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_run import tiny_models
from magic141.tests.support.tiny_vae import open_thin_taehv
from magic141.tests.support.tiny_videos import write_captioned
from magic141.tools.host import use_comfyui
from safetensors.torch import load_file, save_file

use_comfyui()
import folder_paths
from magic141.model_patches.bridge.graph_identity import GraphIdentity
from magic141.model_patches.bridge.training import folder
from magic141.model_patches.bridge.training import run as training
from magic141.model_patches.bridge.training.dataset import SetModels, SetRequest, build_training_set

CONFIG = DistillConfig(total_steps=3)


def test_missing_packages_are_named_with_the_way_to_get_them(monkeypatch):
    assert missing_packages() is None
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else found(name))
    assert "pip install diffusers peft (missing: peft)" in missing_packages()


def test_a_file_that_another_run_wrote_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    path = folder.target_path("mine", "lora")
    assert path == tmp_path / "loras" / "mine.safetensors"
    path.parent.mkdir()
    save_file({"a": torch.zeros(1)}, path, {folder.RUN_KEY: "me"})
    folder.check_target(path, {"me"})
    with pytest.raises(ValueError, match=r"models/loras/mine\.safetensors is there already"):
        folder.check_target(path, {"another"})
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is there already"):
        folder.check_target(path, {"me"})


def test_a_run_goes_on_only_with_its_own_settings_and_set(tmp_path):
    run_dir = tmp_path / "run"
    assert folder.check_run(run_dir, CONFIG, "cats") is None
    folder.note_run(run_dir, "cats", "id")
    (run_dir / "checkpoints" / "step-000002").mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps({**asdict(CONFIG), "weights": "x", "clips": 4}))
    folder.check_run(run_dir, replace(CONFIG, sample_every=7), "cats")
    with pytest.raises(ValueError, match=r"magic141_distill/run.*few_steps was 4 and is now 2"):
        folder.check_run(run_dir, replace(CONFIG, few_steps=2), "cats")
    with pytest.raises(ValueError, match="training_set was 'cats' and is now 'dogs'"):
        folder.check_run(run_dir, CONFIG, "dogs")


@pytest.mark.parametrize("name", folder.RUN_FILES)
def test_a_run_folder_whose_files_lead_elsewhere_is_refused(tmp_path, name):
    run_dir, outside = tmp_path / "run", tmp_path / "outside"
    run_dir.mkdir()
    outside.write_text("someone's")
    (run_dir / name).symlink_to(outside)
    with pytest.raises(ValueError, match=rf"{name} is a link that leads out of its folder"):
        folder.check_run(run_dir, CONFIG, "cats")
    assert outside.read_text() == "someone's"


@pytest.mark.parametrize(
    ("channels", "expanded", "stage", "train", "knows_frames"),
    [
        (33, False, "dmd2", "lora", True),
        (33, True, "dmd2", "lora", False),
        (33, True, "flow", "full", True),
        (16, False, "dmd2", "lora", False),
    ],
)
def test_clips_are_learned_as_the_model_takes_them(
    monkeypatch, channels, expanded, stage, train, knows_frames
):
    monkeypatch.setattr(training, "VideoFolderSource", lambda _set, **options: options)
    model = SimpleNamespace(get_attachment=lambda _key: SimpleNamespace(is_expanded=expanded))
    config = replace(CONFIG, stage=stage, train=train)
    options = training.open_source(None, model, tiny_dit(channels), config)
    assert (options["known_shares"][0] < 1) == knows_frames


class Set:
    """A data set of four clips."""

    def __init__(self, content: str) -> None:
        self.content = lambda: content

    def __len__(self) -> int:
        return 4


def test_a_run_on_other_data_is_told_apart():
    saved = {"clips": 4, "set_content": "a"}
    assert not folder.is_of_other_data(saved, Set("a"))
    assert folder.is_of_other_data(saved, Set("b"))
    assert not folder.is_of_other_data({"clips": 4}, Set("b"))  # an older version's, which does not know
    assert folder.is_of_other_data({"clips": 5}, Set("b"))


def test_a_run_on_data_that_have_changed_is_moved_aside_and_nothing_is_lost(tmp_path):
    run_dir, target = tmp_path / "run", tmp_path / "loras" / "run.safetensors"
    (run_dir / "checkpoints" / "step-000002").mkdir(parents=True)
    folder.note_run(run_dir, "cats", "id")
    target.parent.mkdir()
    for number in (1, 2):
        save_file({"a": torch.zeros(number)}, target, {folder.RUN_KEY: "id"})
        (run_dir / "log.jsonl").write_text(str(number))
        said = folder.move_aside(run_dir, target, {"id"})
        assert f"magic141_distill/run/earlier {number} and run earlier {number}.safetensors" in said
        assert (run_dir / f"earlier {number}" / "log.jsonl").read_text() == str(number)
        assert not target.exists()
    assert (run_dir / "earlier 1" / "checkpoints" / "step-000002").is_dir()
    assert sorted(path.name for path in run_dir.iterdir()) == ["earlier 1", "earlier 2"]
    save_file({"a": torch.zeros(1)}, target, {folder.RUN_KEY: "of others"})
    folder.move_aside(run_dir, target, {"id", None})
    assert target.exists()


def test_a_run_whose_file_is_in_use_is_not_moved_aside_by_halves(tmp_path, monkeypatch):
    run_dir, target = tmp_path / "run", tmp_path / "loras" / "run.safetensors"
    folder.note_run(run_dir, "cats", "id")
    target.parent.mkdir()
    save_file({"a": torch.zeros(1)}, target, {folder.RUN_KEY: "id"})
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    def refusing(source, to):
        raise PermissionError(errno.EACCES, "The process cannot access the file")

    monkeypatch.setattr(os, "rename", refusing)
    with pytest.raises(
        DiskRefused, match=r"run\.safetensors of the earlier run is loaded or open.*Unload the models"
    ):
        folder.move_aside(run_dir, target, {"id"})
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_an_identity_follows_from_settings_data_weights_and_start():
    weights = tiny_dit()
    ids = [
        folder.identity(CONFIG, "data", weights, {}),
        folder.identity(replace(CONFIG, shift=3.0), "data", weights, {}),
        folder.identity(CONFIG, "other data", weights, {}),
        folder.identity(CONFIG, "data", tiny_dit(seed=1), {}),
        folder.identity(CONFIG, "data", weights, weights),
    ]
    assert len(set(ids)) == 5
    assert folder.identity(replace(CONFIG, save_every=3), "data", weights, {}) == ids[0]


def test_an_identity_stays_what_it_was_when_settings_are_renamed():
    """The digests are of a version that said student_steps and guidance; files and folders of runs carry them."""
    config = DistillConfig(total_steps=3, few_steps=2, guidance_w=1.0)
    assert folder.identity(config, "data", {}, {}).startswith("c59777cc43b31938")
    assert folder.identity(config, "cats", {}, {}, older=True).startswith("3ae4490e9295a205")


def test_inputs_of_the_node_that_keep_their_old_names_reach_the_settings():
    config = training.make_config(normalise=False, rollout="renoise", critic_rank=3)
    assert (config.normalize, config.sampler, config.fake_rank) == (False, "renoise", 3)


def test_a_training_whose_file_is_in_use_does_not_fail_at_its_last_step(tmp_path, monkeypatch):
    target = tmp_path / "loras" / "mine.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"mapped by the host")
    replace_file, tensors = os.replace, {"a": torch.ones(1)}

    def refusing(source, to):
        if Path(to) == target:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        replace_file(source, to)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(files, "WAITS_S", ())
    trained = SimpleNamespace(
        step=3, config=replace(CONFIG, train="lora"), base=tensors, lora=lambda: tensors
    )
    job = training.Job("set", None, {}, {}, tmp_path, target, "me", ("a note",))
    learned, job = training.save_trained(trained, job)
    assert torch.equal(learned["a"], load_file(job.target)["a"])
    assert job.target.name == "mine (2).safetensors"
    assert job.notes[0] == "a note"
    assert "mine.safetensors is open in another program" in job.notes[1]
    assert target.read_bytes() == b"mapped by the host"


def test_a_folder_of_loras_that_cannot_be_written_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    for name in ("input", "output", "models"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", {})
    write_captioned(tmp_path / "input" / "videos" / "a.mp4", "stripes")
    opened, vae = tiny_models(), open_thin_taehv()
    request = SetRequest(32, 32, 5, 24.0, 1, True)
    with torch.inference_mode():
        graphs = (GraphIdentity("the encoders"), GraphIdentity("the VAE"))
        build_training_set("set", "input/videos", SetModels(opened.encoders, vae, *graphs), request)
    (tmp_path / "models" / "loras").write_text("a file")
    config = training.make_config(stage="flow", train="lora", total_steps=2)
    with pytest.raises(DiskRefused, match="loras could not be read or written"):
        training.distill_model(opened.model, vae, "set", config, run_name="run", tell=lambda _: None)
    assert not list((tmp_path / "output").rglob("step-*"))
    (tmp_path / "models" / "loras").unlink()
    made = training.distill_model(opened.model, vae, "set", config, run_name="run", tell=lambda _: None)
    assert (tmp_path / "models" / "loras" / made.file_name).is_file()
