"""Training from the command line: settings, weights in any names, a LoRA or a whole model written."""

import json
from dataclasses import replace

import pytest
import torch
from magic141.model_patches.training import __main__ as cli
from magic141.model_patches.training.adapters import merge_lora
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import StepReport, TrainedModel
from magic141.model_patches.training.source import VideoFolderSource
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.unit.training.test_dataset import make_set
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SMALL = {
    "total_steps": 1,
    "batch_size": 2,
    "rank": 2,
    "fake_rank": 2,
    "fake_updates": 1,
    "few_steps": 1,
    "device": "cpu",
}


def run(monkeypatch, tmp_path, *more: str, out=None, steps: int = 1) -> dict[str, torch.Tensor]:
    weights = {f"model.diffusion_model.{key}": value for key, value in tiny_dit().items()}
    save_file(weights, tmp_path / "dit.safetensors")
    out = out or tmp_path / "made" / "out.safetensors"
    arguments = [
        "--weights",
        str(tmp_path / "dit.safetensors"),
        "--run",
        str(tmp_path / "run"),
        "--out",
        str(out),
    ]
    arguments += ["--data", "magic141.tests.support.tiny_source:TinySource"]
    settings = [f"--set={name}={value}" for name, value in SMALL.items()]
    monkeypatch.setattr("sys.argv", ["training", "dmd2", *arguments, *settings, *more])
    cli.main()
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["magic141"]) == {"steps": steps}
    return load_file(out)


def test_a_lora_is_written(monkeypatch, tmp_path, capsys):
    lora = run(monkeypatch, tmp_path)
    assert all(key.startswith("diffusion_model.") and ".lora_" in key for key in lora)
    assert "step 1 of 1: critic" in capsys.readouterr().out


def test_a_student_starts_as_a_lora_or_as_a_model(monkeypatch, tmp_path):
    lora = run(monkeypatch, tmp_path)
    made, other = tmp_path / "made" / "out.safetensors", tmp_path / "run2"
    slow = ("--set=learning_rate=1e-9", "--set=final_learning_rate=1e-9", f"--run={other}")
    again = run(monkeypatch, tmp_path, f"--start={made.rename(tmp_path / 'start.safetensors')}", *slow)
    assert max((again[n] @ again[m] - lora[n] @ lora[m]).abs().max() for n, m in pairs(lora)) < 1e-5
    whole = tmp_path / "whole.safetensors"
    save_file(merge_lora(tiny_dit(), lora), whole)
    started = cli.read_start(whole, tiny_dit())
    assert torch.equal(started["img_in.proj.weight"], tiny_dit()["img_in.proj.weight"])
    save_file({"lora_unet_x.lora_down.weight": torch.ones(1, 1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"holds lora_unet_x\.lora_down\.weight, which this pack does not read"
    ):
        cli.read_start(tmp_path / "other.safetensors", tiny_dit())
    smaller = {name: weight for name, weight in tiny_dit().items() if not name.startswith("single_blocks")}
    with pytest.raises(ValueError, match=r"made for another model: it changes single_blocks\.0\."):
        cli.read_start(tmp_path / "start.safetensors", smaller)


@pytest.mark.parametrize("alpha", [None, 1.0, 8.0])
def test_a_start_has_the_strength_that_its_alpha_gives_it(tmp_path, alpha):
    """As the host's loader has it: alpha over rank; without alpha 1."""
    layer = "diffusion_model.double_blocks.0.img_mlp.0"
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 128, generator=generator), torch.randn(512, 4, generator=generator)
    lora = {f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}
    if alpha is not None:
        lora[f"{layer}.alpha"] = torch.tensor(alpha)
    save_file(lora, tmp_path / "lora.safetensors")
    weight = tiny_dit()["double_blocks.0.img_mlp.0.weight"]
    (started,) = cli.read_start(tmp_path / "lora.safetensors", tiny_dit()).values()
    strength = 1.0 if alpha is None else alpha / 4
    torch.testing.assert_close(started, weight + strength * (up @ down), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["lora_A.weight", "alpha", "dora_scale", "diff_b"])
def test_what_is_not_read_of_a_start_is_said(tmp_path, name):
    layer = "diffusion_model.double_blocks.0.img_mlp.0"
    lora = {f"{layer}.lora_A.weight": torch.zeros(4, 128), f"{layer}.lora_B.weight": torch.zeros(512, 4)}
    lora[f"diffusion_model.double_blocks.0.img_mlp.2.{name}"] = torch.ones(4, 4)
    save_file(lora, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=rf"img_mlp\.2\.{name}, which this pack does not read"):
        cli.read_start(tmp_path / "lora.safetensors", tiny_dit())


def pairs(lora) -> list[tuple[str, str]]:
    """Return the names of factors B and A of every part of a LoRA."""
    return [(name.replace("lora_A", "lora_B"), name) for name in lora if "lora_A" in name]


def test_settings_have_types():
    assert cli.parse_setting("batch_size=8") == ("batch_size", 8)
    assert cli.parse_setting("learning_rate=2e-6") == ("learning_rate", 2e-6)
    assert cli.parse_setting("normalize=false") == ("normalize", False)
    assert cli.parse_setting("normalise=false") == ("normalize", False)
    assert cli.parse_setting("critic_rank=8") == ("fake_rank", 8)
    with pytest.raises(ValueError, match="No such setting: lr"):
        cli.parse_setting("lr=1")
    with pytest.raises(ValueError, match="normalize is '0'; wanted true or false"):
        cli.parse_setting("normalize=0")
    with pytest.raises(ValueError, match="batch_size is 'many'"):
        cli.parse_setting("batch_size=many")


def test_quantized_weights_are_refused(tmp_path):
    weights = {
        k: v.to(torch.float8_e4m3fn) if k.endswith("mlp.0.weight") else v for k, v in tiny_dit().items()
    }
    save_file(weights, tmp_path / "fp8.safetensors")
    with pytest.raises(ValueError, match="is quantized"):
        cli.read_host_weights(tmp_path / "fp8.safetensors")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_two_bytes_and_more_are_read(tmp_path, dtype):
    save_file(tiny_dit(dtype=dtype), tmp_path / "dit.safetensors")
    assert {value.dtype for value in cli.read_host_weights(tmp_path / "dit.safetensors").values()} == {dtype}


def test_a_training_set_is_a_folder_or_a_function_that_makes_one(tmp_path):
    assert len(cli.open_source("magic141.tests.support.tiny_source:TinySource")) == 8
    made = make_set(tmp_path / "set:of videos")
    source = cli.open_source(str(made.directory))
    assert source.content() == VideoFolderSource(made).content()


def test_a_whole_model_is_written_where_it_was_trained_in_full(monkeypatch, tmp_path, capsys):
    out = tmp_path / "made" / "deep" / "whole.safetensors"
    arguments = ["--set=train=full", "--set=total_steps=2", f"--out={out}", f"--run={tmp_path / 'other'}"]
    run(monkeypatch, tmp_path, *arguments, out=out, steps=2)
    assert set(load_file(out)) == set(tiny_dit())
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == ["step 1 of 2", "step 2 of 2", f"wrote {out}"]


def test_only_the_first_process_prints_and_writes(monkeypatch, tmp_path, capsys):
    report = StepReport(2, 2, 9, {"critic": 0.25, "generator": 1.5}, 0.5, None)
    cli.print_step(report)
    cli.print_step(replace(report, motion=None))
    said = "step 2 of 9: critic 0.25, generator 1.5"
    assert capsys.readouterr().out.splitlines() == [f"{said}, motion 0.50", said]
    made = TrainedModel(DistillConfig(train="full"), {}, {}, 2, ("a note",))
    monkeypatch.setenv("RANK", "1")
    cli.print_step(report)
    cli.write(made, tmp_path / "out.safetensors")
    assert (capsys.readouterr().out, list(tmp_path.iterdir())) == ("", [])
    monkeypatch.setenv("RANK", "0")
    cli.print_step(report)
    assert capsys.readouterr().out


def test_the_command_line_says_what_it_takes(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["training", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().out
    assert "\ntorchrun --nproc-per-node 8 -m magic141" in said, "the examples have lines of their own"
    assert "{flow,cfg,dmd2}" in said
    assert "--set NAME=VALUE" in said
    assert all(f"--{name} {name.upper()}" in said for name in ("weights", "start", "data", "run", "out"))


@pytest.mark.parametrize("missing", ["weights", "data", "run", "out"])
def test_what_the_command_line_needs_is_named(monkeypatch, capsys, missing):
    given = [f"--{name}=x" for name in ("weights", "data", "run", "out") if name != missing]
    monkeypatch.setattr("sys.argv", ["training", "dmd2", *given])
    with pytest.raises(SystemExit):
        cli.main()
    assert f"required: --{missing}" in capsys.readouterr().err


def test_a_value_may_hold_an_equals_sign():
    assert cli.parse_setting("device=a=b") == ("device", "a=b")


def test_weights_of_a_torch_file_are_read(tmp_path):
    torch.save(tiny_dit(), tmp_path / "dit.pth")
    read = cli.read_host_weights(tmp_path / "dit.pth")
    assert all(torch.equal(read[name], weight) for name, weight in tiny_dit().items())
    assert cli.read_start(tmp_path / "dit.pth", tiny_dit()).keys() == tiny_dit().keys()
