"""Trainings of a few steps on a tiny model: every stage runs, resumes to the bit, stops well."""

import json
from dataclasses import replace

import pytest
import torch
from magic141.model_patches.training.checkpoint import RunFolder
from magic141.model_patches.training.config import OLD_NAMES, DistillConfig
from magic141.model_patches.training.distill import Task, distill
from magic141.model_patches.training.parallel import quick_precision
from magic141.model_patches.training.trainer import TrainingDiverged
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY, train


@pytest.mark.parametrize("train_what", ["lora", "full"])
@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_dmd2(tmp_path, train_what, sampler):
    config = replace(TINY, train=train_what, sampler=sampler, guidance_w=1.0, sample_every=3)
    host = tiny_dit()
    model, reports = train(config, tmp_path, weights=host)
    assert [r.step for r in reports] == [1, 2, 3]
    assert set(reports[0].losses) == {"critic", "generator", "gradient"}
    assert reports[0].motion > 0
    assert reports[0].samples is None
    assert reports[2].samples.shape == (4, 16, 2, 4, 4)
    full = model.full()
    assert {k: v.shape for k, v in full.items()} == {k: v.shape for k, v in host.items()}
    assert any(not torch.equal(full[k], host[k]) for k in host)


def test_dmd2_rests_where_real_and_fake_model_agree(tmp_path):
    """Without updates the fake model is the real one: eq. 4 is zero and the student stays the teacher."""
    config = replace(TINY, fake_updates=0, total_steps=1, beta1=0.9)
    model, reports = train(config, tmp_path)
    assert reports[0].losses["gradient"] < 1e-6
    assert all(weight.abs().max() == 0 for name, weight in model.lora().items() if ".lora_B." in name)


def test_the_fake_model_learns_alone_first(tmp_path):
    config = replace(TINY, total_steps=4, fake_warmup=2, save_every=1, sample_every=1)
    model, reports = train(config, tmp_path, stop_after=2)
    assert [set(r.losses) for r in reports] == [{"critic"}] * 2
    assert [(r.updates, r.samples) for r in reports] == [(0, None)] * 2
    assert all(weight.abs().max() == 0 for name, weight in model.lora().items() if ".lora_B." in name)
    model, later = train(config, tmp_path)
    assert [set(r.losses) for r in later] == [{"critic", "generator", "gradient"}] * 2
    assert [(r.step, r.updates, r.samples is None) for r in later] == [(3, 1, False), (4, 2, False)]
    assert any(weight.abs().max() > 0 for name, weight in model.lora().items() if ".lora_B." in name)
    whole, reports_at_once = train(config, tmp_path / "whole")
    assert [r.losses for r in reports_at_once] == [r.losses for r in (*reports, *later)]
    assert all(torch.equal(whole.lora()[name], weight) for name, weight in model.lora().items())


def test_a_run_that_is_older_than_a_setting_goes_on(tmp_path):
    train(TINY, tmp_path, stop_after=1)
    file = RunFolder(tmp_path).config_file
    saved = json.loads(file.read_text())
    del saved["real_shift"]
    file.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"real_shift was 0\.25 and is now 0\.5"):
        train(replace(TINY, real_shift=0.5), tmp_path)
    _, reports = train(TINY, tmp_path)
    assert [report.step for report in reports] == [2, 3]


def test_a_run_that_names_its_settings_as_older_versions_did_goes_on(tmp_path):
    train(TINY, tmp_path, stop_after=1)
    file = RunFolder(tmp_path).config_file
    old = {
        "critic_learning_rate": TINY.fake_learning_rate,
        "critic_rank": TINY.fake_rank,
        "critic_updates": TINY.fake_updates,
        "critic_warmup": TINY.fake_warmup,
        "guidance": TINY.guidance_w,
        "guidance_max": TINY.guidance_w_max,
        "guidance_min": TINY.guidance_w_min,
        "normalise": TINY.normalize,
        "rollout": TINY.sampler,
        "student_steps": TINY.few_steps,
    }
    kept = {k: v for k, v in json.loads(file.read_text()).items() if k not in OLD_NAMES.values()}
    assert len(kept | old) == len(json.loads(file.read_text()))
    file.write_text(json.dumps(kept | old | {"critic_rank": 3}))
    with pytest.raises(ValueError, match="fake_rank was 3 and is now 2"):
        train(TINY, tmp_path)
    file.write_text(json.dumps(kept | old))
    _, reports = train(TINY, tmp_path)
    assert [report.step for report in reports] == [2, 3]
    assert json.loads(file.read_text()).keys() >= {*OLD_NAMES.values()}


def test_a_run_with_settings_that_are_gone_goes_on_where_they_were_at_their_defaults(tmp_path):
    train(TINY, tmp_path, stop_after=1)
    file = RunFolder(tmp_path).config_file
    saved = json.loads(file.read_text())
    gone = {"ode_call_shares": [], "dmd_call_shares": [], "ode_choice_weight": 0.0}
    file.write_text(json.dumps(saved | gone | {"dmd_call_shares": [0.0, 1.0]}))
    with pytest.raises(ValueError, match=r"dmd_call_shares was \[0\.0, 1\.0\] and is now None"):
        train(TINY, tmp_path)
    file.write_text(json.dumps(saved | gone))
    _, reports = train(TINY, tmp_path)
    assert [report.step for report in reports] == [2, 3]


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ema_decay", NAN),
        ("ema_decay", 1.0),
        ("ema_decay", -0.1),
        ("beta1", 1.0),
        ("learning_rate", INFINITE),
        ("fake_learning_rate", NAN),
        ("real_shift", NAN),
        ("weight_decay", NAN),
        ("guidance_w_max", NAN),
        ("shift", NAN),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} is {value}; it must be "):
        replace(TINY, **{name: value})


@pytest.mark.parametrize(
    "settings", [{"fake_warmup": TINY.total_steps}, {"ode_updates": 2, "fake_warmup": 1}]
)
def test_starts_that_do_not_fit_into_the_run_are_refused(settings):
    with pytest.raises(ValueError, match="do not fit into total_steps"):
        replace(TINY, **settings)


def test_flow_matching_learns(tmp_path):
    config = replace(TINY, stage="flow", train="full", total_steps=16, learning_rate=1e-2, beta1=0.9)
    _, reports = train(config, tmp_path)
    losses = [r.losses["loss"] for r in reports]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def test_flow_matching_from_text_to_video_weights(tmp_path):
    config = replace(TINY, stage="flow", train="full", expand_input=True, total_steps=1)
    model, _ = train(config, tmp_path, weights=tiny_dit(16))
    assert model.full()["img_in.proj.weight"].shape[1] == 33


def test_text_to_video_dmd2(tmp_path):
    model, _ = train(TINY, tmp_path, weights=tiny_dit(16), source=TinySource(0))
    assert model.full()["img_in.proj.weight"].shape[1] == 16


def test_cfg_distillation_adds_the_embedder(tmp_path):
    config = replace(TINY, stage="cfg", train="full")
    model, reports = train(config, tmp_path)
    assert {"loss", "cfg", "base"} == set(reports[0].losses)
    assert model.full()["guidance_in.out_layer.weight"].abs().max() > 0


def test_cfg_distillation_into_a_lora(tmp_path):
    weights = tiny_dit(guidance=True)
    config = replace(TINY, stage="cfg")
    assert train(config, tmp_path, weights=weights)[0].lora()
    with pytest.raises(ValueError, match="guidance embedder"):
        train(config, tmp_path / "other")


def test_resuming_repeats_the_losses_to_the_bit(tmp_path):
    whole = [r.losses for r in train(TINY, tmp_path / "whole")[1]]
    first = train(TINY, tmp_path / "parts", stop_after=2)
    assert first[0].step == 2
    rest = train(TINY, tmp_path / "parts")
    assert [r.losses for r in first[1]] + [r.losses for r in rest[1]] == whole
    once, twice = RunFolder(tmp_path / "whole").read_log(), RunFolder(tmp_path / "parts").read_log()
    assert once == twice
    assert len(once) == 3


@pytest.mark.parametrize("question", [2, 5, 9, 14, 20, 27])
def test_a_stop_in_the_middle_of_a_step_loses_no_update_and_changes_nothing(tmp_path, question):
    config = replace(TINY, sample_every=2, guidance_w=1.0)
    whole, reports = train(config, tmp_path / "whole")
    stopped, first = train(config, tmp_path / "parts", stop_at_question=question)
    assert stopped.step < 3
    model, rest = train(config, tmp_path / "parts")
    assert [r.step for r in (*first, *rest)] == [1, 2, 3]
    at = len(first)
    assert rest[0].losses.items() <= reports[at].losses.items(), (
        "the updates before the stop are not repeated"
    )
    assert [r.losses for r in rest[1:]] == [r.losses for r in reports[at + 1 :]]
    assert all(torch.equal(whole.weights[k], model.weights[k]) for k in whole.weights)


def test_averaged_weights_survive_a_resume(tmp_path):
    once, _ = train(TINY, tmp_path / "whole")
    train(TINY, tmp_path / "parts", stop_after=1)
    twice, _ = train(TINY, tmp_path / "parts")
    assert all(torch.equal(once.weights[k], twice.weights[k]) for k in once.weights)


def test_another_configuration_is_refused_by_name(tmp_path):
    train(replace(TINY, total_steps=1), tmp_path)
    with pytest.raises(
        ValueError, match=r"real_shift was 0.25 and is now 0.5; total_steps was 1 and is now 3"
    ):
        train(replace(TINY, real_shift=0.5), tmp_path)
    with pytest.raises(ValueError, match="weights was"):
        train(replace(TINY, total_steps=1), tmp_path, weights=tiny_dit(seed=1))
    train(replace(TINY, total_steps=1, sample_every=1), tmp_path)  # may change


def test_divergence_keeps_the_last_good_checkpoint(tmp_path):
    source = TinySource()

    def poison(report):
        if report.step == 2:
            source.latents[:] = float("nan")

    config = replace(TINY, save_every=1)
    with pytest.raises(TrainingDiverged, match=r"step 3 .*is nan.*step-000002"):
        distill(Task(config, source, tiny_dit()), tmp_path, on_step=poison)
    assert RunFolder(tmp_path).saved_steps() == [1, 2]
    source.latents[:] = 1.0
    model, reports = train(config, tmp_path, source=source)
    assert [r.step for r in reports] == [3]
    assert all(v.isfinite().all() for v in model.weights.values())


def test_a_killed_save_leaves_no_half_checkpoint(tmp_path):
    train(replace(TINY, total_steps=1), tmp_path)
    half = tmp_path / "checkpoints" / "step-000009.part"
    half.mkdir()
    assert RunFolder(tmp_path).saved_steps() == [1]
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert len(RunFolder(tmp_path).read_log()) == 1


def test_data_of_another_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="text width 64, the model takes 32"):
        train(TINY, tmp_path, weights=tiny_dit(text_width=32))
    with pytest.raises(ValueError, match="known first frames"):
        train(TINY, tmp_path, weights=tiny_dit(16))
    with pytest.raises(ValueError, match="holds no clips"):
        train(TINY, tmp_path, source=TinySource(clips=0))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="stage is 'x'; wanted one of flow, cfg, dmd2"):
        DistillConfig(stage="x")
    with pytest.raises(ValueError, match="batch_size is 5; it must be a multiple of micro_batch_size, 2"):
        DistillConfig(batch_size=5, micro_batch_size=2)


@pytest.mark.parametrize("train_what", ["lora", "full"])
def test_training_where_the_host_is_in_inference_mode(tmp_path, train_what):
    with torch.inference_mode():
        config = replace(TINY, train=train_what, total_steps=1, few_steps=1, sample_every=1)
        model, reports = train(config, tmp_path)
    assert reports[0].losses["gradient"] > 0
    assert model.full()


def test_accumulated_micro_batches_see_other_rows(tmp_path):
    source = TinySource()
    train(replace(TINY, batch_size=4, micro_batch_size=2, total_steps=1), tmp_path, source=source)
    asked = source.asked[1:]
    assert len(asked) == 3 * 2
    assert all(len(rows) == 2 for rows in asked)


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": "flow", "train": "full"},
        {"stage": "cfg", "train": "full"},
        {"sampler": "renoise", "sample_every": 1},
        {"ode_updates": 1, "fake_warmup": 1},
    ],
)
def test_a_training_draws_nothing_from_the_programs_own_random_numbers(tmp_path, changes):
    """Whatever else draws from them, a seed gives the same training."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _, first = train(replace(TINY, **changes), tmp_path / "first")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    _, second = train(replace(TINY, **changes), tmp_path / "second")
    assert [report.losses for report in first] == [report.losses for report in second]


def test_the_precision_that_a_device_is_quick_at_is_noted_in_the_model(tmp_path):
    model, _ = train(replace(TINY, precision="auto", total_steps=1), tmp_path)
    assert model.config == replace(TINY, precision=quick_precision(torch.device("cpu")), total_steps=1)


def test_a_finished_run_is_not_written_again(tmp_path):
    model, _ = train(TINY, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in RunFolder(tmp_path).checkpoint(3).iterdir()}
    again, reports = train(TINY, tmp_path)
    assert reports == []
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert all(torch.equal(again.weights[name], weight) for name, weight in model.weights.items())


def test_a_resumed_run_that_diverges_names_the_checkpoint_that_it_went_on_from(tmp_path):
    train(TINY, tmp_path, stop_after=1)
    source = TinySource()
    source.latents[:] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"at step 2 .* last good checkpoint is .*step-000001"):
        train(TINY, tmp_path, source=source)
    with pytest.raises(TrainingDiverged, match=r"at step 1 .* No checkpoint was saved yet"):
        train(TINY, tmp_path / "new", source=source)


def test_clips_of_one_frame_have_no_motion(tmp_path):
    source = TinySource(0)
    source.latents = source.latents[:, :, :1]
    config = replace(TINY, total_steps=2, sample_every=1)
    _, reports = train(config, tmp_path, weights=tiny_dit(16), source=source)
    assert [report.motion for report in reports] == [None, None]
    assert reports[1].samples.shape == (4, 16, 1, 4, 4)
    assert [row["motion"] for row in RunFolder(tmp_path).read_log()] == [None, None]
