"""The loop's own arithmetic: learning rates, optimizers, seeds, clipped gradients, and what it leaves on a network."""

import contextlib
import hashlib
import json
import logging
from dataclasses import replace

import pytest
import torch
from magic141.model_patches.store.directory_lock import DirectoryLock
from magic141.model_patches.training import distill as distill_module
from magic141.model_patches.training import parallel
from magic141.model_patches.training import trainer as trainer_module
from magic141.model_patches.training.adapters import FAKE, STUDENT
from magic141.model_patches.training.checkpoint import RunFolder
from magic141.model_patches.training.distill import distill
from magic141.model_patches.training.networks import build_networks
from magic141.model_patches.training.parallel import Processes, this_process
from magic141.model_patches.training.sampling import draw_last_call
from magic141.model_patches.training.stages import student_clip
from magic141.model_patches.training.trainer import (
    Stopped,
    Trainer,
    learning_rate,
    sample_generator,
    seeded,
)
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY, tiny_task, train


def trainer_of(config, folder, **options) -> Trainer:
    task = tiny_task(config, **options)
    networks = build_networks(task.config, task.weights, "cpu")
    return Trainer(task, networks, this_process(), RunFolder(folder))


def rates(config) -> list[float]:
    return [learning_rate(step, config) for step in range(config.total_steps)]


def test_the_learning_rate_warms_up_and_then_falls_to_its_last_value():
    config = replace(TINY, total_steps=9, warmup_steps=3, learning_rate=4.0, final_learning_rate=1.5)
    assert rates(config) == pytest.approx([1, 2, 3, 4, 3.5, 3, 2.5, 2, 1.5])
    without = replace(config, warmup_steps=0, total_steps=6)
    assert rates(without) == pytest.approx([4, 3.5, 3, 2.5, 2, 1.5])
    assert learning_rate(50, without) == 1.5, "and stays there"
    assert rates(replace(without, total_steps=1)) == [4.0]


def test_the_students_rate_follows_the_ode_first_and_begins_anew_after_the_fake_models_warm_up():
    config = replace(
        TINY,
        total_steps=9,
        ode_updates=3,
        fake_warmup=2,
        ode_learning_rate=8.0,
        learning_rate=4.0,
        final_learning_rate=1.0,
    )
    assert rates(config) == [8, 6, 4, 0, 0, 4, 3, 2, 1], "it does not learn in between"
    warm = replace(config, warmup_steps=1, ode_updates=4)
    assert rates(warm)[:4] == [4, 8, 6, 4]
    assert rates(warm)[6:] == [2, 4, 1]


def test_who_learns_has_the_settings_rates_and_averages_of_gradients(tmp_path):
    config = replace(
        TINY, learning_rate=3e-4, fake_learning_rate=5e-4, beta1=0.3, beta2=0.7, weight_decay=0.01
    )
    trainer = trainer_of(config, tmp_path)
    assert set(trainer.optimizers) == {STUDENT, FAKE}
    for name, rate in ((STUDENT, 3e-4), (FAKE, 5e-4)):
        (group,) = trainer.optimizers[name].param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (rate, (0.3, 0.7), 0.01)
        assert {id(p) for p in group["params"]} == {id(p) for p in trainer.parameters[name].values()}
    trainer.config = replace(config, warmup_steps=4)
    trainer._step()
    assert trainer.optimizers[STUDENT].param_groups[0]["lr"] == pytest.approx(3e-4 / 5)
    assert trainer.optimizers[FAKE].param_groups[0]["lr"] == 5e-4


def test_gradients_are_clipped_to_the_norm_that_is_set(tmp_path):
    trainer = trainer_of(replace(TINY, clip_norm=1e-6, stage="flow"), tmp_path)
    trainer._step()
    gradients = [p.grad.flatten() for p in trainer.parameters[STUDENT].values()]
    assert torch.cat(gradients).norm() == pytest.approx(1e-6, rel=1e-2)


def test_seeds_are_half_of_a_digest_so_that_old_runs_repeat_their_losses():
    digest = hashlib.sha256(b"7/3/student/0").digest()
    assert seeded(7, 3, "student", 0).initial_seed() == int.from_bytes(digest[:7], "big")
    digest = hashlib.sha256(b"5/sample").digest()
    assert sample_generator(replace(TINY, seed=5)).initial_seed() == int.from_bytes(digest[:7], "big")


def test_every_call_of_the_schedule_is_the_last_as_often():
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_last_call(3, generator) for _ in range(300)]
    assert sorted(set(drawn)) == [0, 1, 2]
    assert all(70 < drawn.count(call) < 130 for call in range(3))


def test_nothing_is_left_on_the_networks_after_a_run(tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    trainer.run(None, lambda: False)
    (network,) = trainer.networks.modules
    hooks = [module for module in network.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert hooks == []
    assert trainer.step == TINY.total_steps


def test_other_clips_are_sampled_where_they_are_given(tmp_path):
    shown, trained = TinySource(clips=3), TinySource()
    trainer = trainer_of(replace(TINY, sample_clips=5), tmp_path, source=trained, sample_source=shown)
    clips, _ = trainer.sample()
    assert len(clips) == 3, "as many as there are"
    assert (shown.asked, trained.asked) == ([[0, 1, 2]], [])
    few = trainer_of(replace(TINY, sample_clips=2), tmp_path, source=trained)
    assert len(few.sample()[0]) == 2
    assert trained.asked == [[0, 1]]


def test_sampling_leaves_the_students_weights_as_they_are(tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    trainer._step()
    before = {name: p.detach().clone() for name, p in trainer.parameters[STUDENT].items()}
    trainer.sample()
    assert all(torch.equal(p, before[name]) for name, p in trainer.parameters[STUDENT].items())
    with trainer.averaged_student():
        for name, p in trainer.parameters[STUDENT].items():
            assert torch.equal(p, trainer.average[name])


def test_checkpoints_and_samples_come_at_their_steps(tmp_path):
    config = replace(TINY, total_steps=5, save_every=2, sample_every=2, fake_updates=1)
    model, reports = train(config, tmp_path)
    assert [report.step for report in reports if report.samples is not None] == [2, 4]
    assert [(report.updates, report.total) for report in reports] == [(step, 5) for step in range(1, 6)]
    assert RunFolder(tmp_path).saved_steps() == [4, 5]
    assert model.step == 5
    assert [row["step"] for row in RunFolder(tmp_path).read_log()] == [1, 2, 3, 4, 5]
    assert set(RunFolder(tmp_path).read_log()[0]) == {"step", "motion", "critic", "generator", "gradient"}


@pytest.mark.parametrize("lock", [True, False])
def test_a_run_folder_is_made_with_all_above_it(tmp_path, lock):
    folder = tmp_path / "a" / "b" / "run"
    model = distill(tiny_task(replace(TINY, total_steps=1)), folder, lock=lock)
    assert model.step == 1
    assert RunFolder(folder).saved_steps() == [1]


def test_a_run_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/file"):
        train(TINY, tmp_path / "file" / "run")


class KnownSource(TinySource):
    """A source that says what it holds."""

    text = "one"

    def content(self) -> str:
        return self.text


def test_a_run_notes_what_it_is_made_of(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    source = KnownSource()
    model, _ = train(TINY, tmp_path, source=source, stop_after=1, identity={"mine": 3})
    assert model.notes == ()
    folder = RunFolder(tmp_path)
    saved = folder.read_config()
    assert set(saved) - set(vars(TINY)) == {"weights", "clips", "set_content", "mine"}
    assert (saved["clips"], saved["set_content"], saved["mine"]) == (8, "one", 3)
    assert folder.config_file.read_text().splitlines()[1].startswith(' "'), "a setting a line"
    source.text = "two"
    with pytest.raises(ValueError, match="set_content was 'one' and is now 'two'"):
        train(TINY, tmp_path, source=source, identity={"mine": 3})
    source.text = "one"
    del saved["set_content"]
    folder.config_file.write_text(json.dumps(saved))
    model, _ = train(TINY, tmp_path, source=source, identity={"mine": 3})
    assert "did not note what its training set held" in model.notes[0]
    assert model.notes[0] in caplog.text


def test_a_checkpoint_that_a_kill_left_aside_is_gone_on_from(tmp_path):
    train(TINY, tmp_path, stop_after=1)
    saved = RunFolder(tmp_path).checkpoint(1)
    saved.rename(saved.with_name(f"{saved.name}.old.part"))
    _, reports = train(TINY, tmp_path)
    assert [report.step for report in reports] == [2, 3]


def test_one_row_is_looked_at_before_training(tmp_path):
    source = TinySource()
    train(replace(TINY, total_steps=1, fake_updates=0), tmp_path, source=source)
    assert source.asked[0] == [0]
    assert [len(rows) for rows in source.asked[1:]] == [2]


def test_a_rate_falls_within_two_steps():
    config = replace(TINY, total_steps=2, learning_rate=4.0, final_learning_rate=1.5)
    assert rates(config) == [4.0, 1.5]


def test_everything_random_is_seeded_by_run_step_update_and_micro_batch(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(trainer_module, "seeded", lambda *parts: asked.append(parts) or seeded(*parts))
    trainer = trainer_of(replace(TINY, seed=5, fake_updates=1, batch_size=4, micro_batch_size=2), tmp_path)
    trainer.step = 7
    trainer._step()
    assert asked == [
        (5, 7, "critic0"),
        (5, 7, "critic0", 0),
        (5, 7, "critic0", 1),
        (5, 7, "student"),
        (5, 7, "student", 0),
        (5, 7, "student", 1),
    ]


def test_micro_batches_are_averaged_in_losses_and_gradients(tmp_path):
    config = replace(TINY, stage="flow", micro_batch_size=1, clip_norm=1e9)
    trainer = trainer_of(config, tmp_path)
    (phase,) = trainer.phases(trainer.config, trainer.networks, 0)
    losses, gradients = [], []
    for index in range(2):
        (loss,) = phase.losses(trainer._micro(phase, index, 0)).values()
        losses.append(float(loss.detach()))
        gradients.append(torch.autograd.grad(loss, list(trainer.parameters[STUDENT].values())))
    report = trainer._step()
    assert report.losses["loss"] == pytest.approx(sum(losses) / 2)
    for parameter, *parts in zip(trainer.parameters[STUDENT].values(), *gradients, strict=True):
        torch.testing.assert_close(parameter.grad, sum(parts) / 2)


@pytest.mark.parametrize("sharded", [True, False])
def test_gradients_are_averaged_over_processes_that_each_hold_all_weights(tmp_path, monkeypatch, sharded):
    averaged = []
    monkeypatch.setattr(
        trainer_module,
        "average_gradients",
        lambda parameters, processes: averaged.append((list(parameters), processes)),
    )
    trainer = trainer_of(replace(TINY, stage="flow", sharded=sharded), tmp_path)
    trainer._step()
    assert len(averaged) == (0 if sharded else 1)
    for parameters, processes in averaged:
        assert len(parameters) == len(trainer.parameters[STUDENT])
        assert processes is trainer.processes


def test_a_stop_is_heard_inside_a_network_by_one_process_alone(tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    micro = trainer._micro(trainer.phases(trainer.config, trainer.networks, 0)[0], 0, 0)
    with pytest.raises(Stopped), trainer._stopping_in_updates(lambda: True):
        student_clip(micro)
    trainer.processes = Processes(0, 2, torch.device("cpu"))
    with trainer._stopping_in_updates(lambda: True):
        student_clip(micro)


def test_batches_go_to_the_device_that_trains(tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    trainer.processes = Processes(0, 1, torch.device("meta"))
    micro = trainer._micro(trainer.phases(trainer.config, trainer.networks, 0)[0], 0, 1)
    assert micro.batch.latents.is_meta
    assert micro.last_call == 1


def test_clips_are_sampled_as_the_student_is_trained(tmp_path):
    config = replace(TINY, few_steps=3, sample_clips=1)
    trainer = trainer_of(config, tmp_path)
    euler, _ = trainer.sample()
    trainer.config = replace(config, sampler="renoise")
    renoised, _ = trainer.sample()
    assert not torch.allclose(euler, renoised)
    assert torch.equal(trainer.sample()[0], renoised)


class TwoAlike:
    """The process group of two, of which the other says the same."""

    def all_reduce(self, tensor: torch.Tensor) -> None:
        tensor *= 2

    def broadcast(self, tensor: torch.Tensor, source: int) -> None: ...

    def barrier(self) -> None: ...


@pytest.mark.parametrize(
    ("size", "sharded", "place"), [(2, True, "cpu"), (2, False, "meta"), (1, True, "meta")]
)
def test_networks_that_are_shared_out_are_built_beside_the_device(
    tmp_path, monkeypatch, size, sharded, place
):
    """A whole network may not fit there."""
    shared, built = [], []
    monkeypatch.setattr(parallel, "dist", TwoAlike())
    monkeypatch.setattr(
        distill_module,
        "join_processes",
        lambda config: contextlib.nullcontext(Processes(0, size, torch.device("meta"))),
    )
    monkeypatch.setattr(distill_module, "shard", lambda *arguments: shared.append(arguments))

    def build(config, weights, device, start):
        built.append(torch.device(device).type)
        return build_networks(config, weights, "cpu", start)

    class Trained(Exception):
        """It has come as far as is tested."""

    def trainer(*_):
        raise Trained

    monkeypatch.setattr(distill_module, "build_networks", build)
    monkeypatch.setattr(distill_module, "Trainer", trainer)
    monkeypatch.setattr(Processes, "any", lambda self, flag: flag)
    with pytest.raises(Trained):
        distill(tiny_task(replace(TINY, sharded=sharded)), tmp_path)
    assert built == [place]
    assert len(shared) == (size == 2 and sharded)
    for modules, processes in shared:
        assert (len(modules), processes.size) == (1, 2)


def test_a_whole_model_comes_back_in_the_precision_it_came_in(tmp_path):
    weights = tiny_dit(dtype=torch.bfloat16)
    model, _ = train(replace(TINY, stage="flow", train="full", total_steps=1), tmp_path, weights=weights)
    assert {value.dtype for value in model.full().values()} == {torch.bfloat16}
    with pytest.raises(ValueError, match="trained in full and is no LoRA"):
        model.lora()


def test_a_checkpoint_inside_a_step_holds_the_updates_that_are_done(tmp_path):
    config = replace(TINY, fake_updates=1)
    trainer = trainer_of(config, tmp_path)
    trainer._step()
    trainer.phases_done = 1
    trainer.save()
    assert trainer.saved_step == 1
    again = trainer_of(config, tmp_path)
    assert (again.step, again.phases_done, again.saved_step) == (1, 1, 1)
    assert set(again._step().losses) == {"generator", "gradient"}, "the fake model's update is done"
    assert (again.step, again.phases_done) == (2, 0)


def test_a_folder_in_use_is_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(distill_module, "build_networks", None)
    with DirectoryLock(tmp_path), pytest.raises(ValueError, match="is in use by another run"):
        distill(tiny_task(TINY), tmp_path)


def test_every_step_is_logged_with_its_losses_and_its_motion(tmp_path):
    _, reports = train(TINY, tmp_path)
    rows = RunFolder(tmp_path).read_log()
    for report, row in zip(reports, rows, strict=True):
        assert row == {"step": report.step, "motion": report.motion, **report.losses}
        assert report.motion > 0
