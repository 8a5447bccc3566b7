"""Trainings of a few steps on a tiny model: every stage runs, resumes to the bit, stops well."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from magic141.model_patches.training.checkpoint import RunFolder
from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import TrainingDiverged, distill
from magic141.model_patches.training.stages import phases
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource

TINY = DistillConfig(
    total_steps=3,
    batch_size=2,
    rank=2,
    critic_rank=2,
    critic_updates=2,
    warmup_steps=0,
    student_steps=2,
    save_every=0,
    device="cpu",
)


def train(config, folder, *, source=None, weights=None, **options):
    reports = []
    model = distill(
        config,
        TinySource() if source is None else source,
        weights or tiny_dit(),
        folder,
        on_step=reports.append,
        **options,
    )
    return model, reports


@pytest.mark.parametrize("train_what", ["lora", "full"])
@pytest.mark.parametrize("rollout", ["euler", "renoise"])
def test_dmd2(tmp_path, train_what, rollout):
    config = replace(TINY, train=train_what, rollout=rollout, guidance=1.0, sample_every=3)
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
    config = replace(TINY, critic_updates=0, total_steps=1, beta1=0.9)
    model, reports = train(config, tmp_path)
    assert reports[0].losses["gradient"] < 1e-6
    assert all(weight.abs().max() == 0 for name, weight in model.lora().items() if ".lora_B." in name)


def test_the_fake_model_learns_alone_first(tmp_path):
    config = replace(TINY, total_steps=4, critic_warmup=2, save_every=1, sample_every=1)
    stop = iter([False, False, True])
    model, reports = train(config, tmp_path, should_stop=lambda: next(stop))
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


def test_the_teachers_ode_comes_first(tmp_path):
    config = replace(TINY, total_steps=5, ode_updates=2, critic_warmup=1, guidance=1.0, save_every=1)
    stop = iter([False, False, True])
    _, reports = train(config, tmp_path, should_stop=lambda: next(stop))
    model, later = train(config, tmp_path)
    assert [set(r.losses) for r in (*reports, *later)] == [
        {"ode"},
        {"ode"},
        {"critic"},
        {"critic", "generator", "gradient"},
        {"critic", "generator", "gradient"},
    ]
    whole, at_once = train(config, tmp_path / "whole")
    assert [r.losses for r in at_once] == [r.losses for r in (*reports, *later)]
    assert all(torch.equal(whole.lora()[name], weight) for name, weight in model.lora().items())


def test_a_student_learns_the_teachers_ode(tmp_path):
    config = replace(TINY, total_steps=30, ode_updates=30, ode_learning_rate=3e-3, rank=8, ode_substeps=4)
    _, reports = train(config, tmp_path)
    losses = [r.losses["ode"] for r in reports]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_one_substep_without_guidance_is_what_the_teacher_does(tmp_path):
    config = replace(TINY, total_steps=1, ode_updates=1, ode_substeps=1)
    _, reports = train(config, tmp_path)
    assert reports[0].losses["ode"] < 1e-10


def test_calls_learn_the_ode_as_often_as_their_shares():
    networks = SimpleNamespace(student=None, fake=SimpleNamespace())
    generator = torch.Generator().manual_seed(0)
    config = replace(TINY, ode_updates=1, ode_call_shares=(1.0, 3.0))
    (ode,), dmd2_phases = (phases(config, networks, step) for step in (0, 1))
    for phase, second_call in ((ode, 0.75), (dmd2_phases[-1], 0.5)):
        drawn = [phase.draw_last_call(config, generator) for _ in range(400)]
        assert sum(drawn) / len(drawn) == pytest.approx(second_call, abs=0.07)
    last_alone = replace(config, ode_call_shares=(), dmd_call_shares=(0.0, 1.0))
    for phase in phases(last_alone, networks, 1):
        assert {phase.draw_last_call(last_alone, generator) for _ in range(40)} == {1}
    only_first = replace(ode, call_shares=(1.0, 0.0))
    assert {only_first.draw_last_call(config, generator) for _ in range(40)} == {0}


def test_a_run_with_shares_of_calls_goes_on(tmp_path):
    config = replace(TINY, total_steps=3, ode_updates=3, ode_call_shares=(1.0, 3.0))
    stop = iter([False, True])
    train(config, tmp_path, should_stop=lambda: next(stop))
    _, reports = train(config, tmp_path)
    assert [report.step for report in reports] == [2, 3]


def test_shares_of_calls_that_are_not_there_are_refused():
    for name in ("ode_call_shares", "dmd_call_shares"):
        for shares in ((1.0,), (1.0, -1.0), (0.0, 0.0)):
            with pytest.raises(ValueError, match=f"{name} is .* wanted 2 numbers, one a step of the student"):
                replace(TINY, **{name: shares})
    with pytest.raises(ValueError, match="shares are of the ode_updates"):
        replace(TINY, ode_call_shares=(1.0, 2.0))
    for settings in ({"stage": "flow"}, {"ode_updates": TINY.total_steps}):
        with pytest.raises(
            ValueError, match=r"dmd_call_shares is \[1\.0, 2\.0\], but none of the updates is one of DMD2"
        ):
            replace(TINY, dmd_call_shares=(1.0, 2.0), **settings)


def test_a_run_that_is_older_than_a_setting_goes_on(tmp_path):
    stop = iter([False, True])
    train(TINY, tmp_path, should_stop=lambda: next(stop))
    file = RunFolder(tmp_path).config_file
    saved = json.loads(file.read_text())
    del saved["dmd_call_shares"]
    file.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"dmd_call_shares was \[\] and is now \[0\.0, 1\.0\]"):
        train(replace(TINY, dmd_call_shares=(0.0, 1.0)), tmp_path)
    _, reports = train(TINY, tmp_path)
    assert [report.step for report in reports] == [2, 3]


def test_a_weight_of_choices_without_what_it_weighs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ode_choice_weight is 30 and ode_updates 0"):
        replace(TINY, ode_choice_weight=30.0)
    with pytest.raises(ValueError, match="this data does not know which clips could follow"):
        train(replace(TINY, ode_updates=1, ode_choice_weight=30.0), tmp_path)


@pytest.mark.parametrize(
    "settings", [{"critic_warmup": TINY.total_steps}, {"ode_updates": 2, "critic_warmup": 1}]
)
def test_starts_that_do_not_fit_into_the_run_are_refused(settings):
    with pytest.raises(ValueError, match="do not fit into total_steps"):
        replace(TINY, **settings)


def test_the_teachers_ode_needs_dmd2():
    with pytest.raises(ValueError, match='need stage "dmd2"'):
        replace(TINY, stage="flow", ode_updates=1)


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
    stop = iter([False, False, True])
    first = train(TINY, tmp_path / "parts", should_stop=lambda: next(stop))
    assert first[0].step == 2
    rest = train(TINY, tmp_path / "parts")
    assert [r.losses for r in first[1]] + [r.losses for r in rest[1]] == whole
    once, twice = RunFolder(tmp_path / "whole").read_log(), RunFolder(tmp_path / "parts").read_log()
    assert once == twice
    assert len(once) == 3


def test_averaged_weights_survive_a_resume(tmp_path):
    once, _ = train(TINY, tmp_path / "whole")
    stop = iter([False, True])
    train(TINY, tmp_path / "parts", should_stop=lambda: next(stop))
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
        distill(config, source, tiny_dit(), tmp_path, on_step=poison)
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
    with pytest.raises(ValueError, match="no multiple"):
        DistillConfig(batch_size=5, micro_batch_size=2)
    with pytest.raises(ValueError, match="No such setting: lr"):
        DistillConfig.from_json(json.dumps({"lr": 1}))
    for config in (TINY, replace(TINY, ode_updates=1, ode_call_shares=(1.0, 2.0))):
        assert DistillConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("train_what", ["lora", "full"])
def test_training_where_the_host_is_in_inference_mode(tmp_path, train_what):
    with torch.inference_mode():
        config = replace(TINY, train=train_what, total_steps=1, student_steps=1, sample_every=1)
        model, reports = train(config, tmp_path)
    assert reports[0].losses["gradient"] > 0
    assert model.full()


def test_accumulated_micro_batches_see_other_rows(tmp_path):
    source = TinySource()
    train(replace(TINY, batch_size=4, micro_batch_size=2, total_steps=1), tmp_path, source=source)
    asked = source.asked[1:]
    assert len(asked) == 3 * 2
    assert all(len(rows) == 2 for rows in asked)
