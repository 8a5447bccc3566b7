"""The weights that ship stand in for a training cache that is not at hand."""

from types import SimpleNamespace

import pytest
import torch
from magic141.lab.experiment.export import SEED
from magic141.lab.experiment.plan import PLANS
from magic141.lab.experiment.run import Experiment, teacher_weights
from magic141.lab.experiment.students import SHIPPED_STUDENTS
from magic141.lab.models import unpack
from magic141.lab.models.data import Encoders
from magic141.lab.models.run import stage_dir
from magic141.lab.models.shipped import T2V, TI2V, shipped_dit, shipped_student, shipped_vae_weights
from magic141.lab.models.taehv import narrow_network


def test_what_ships_is_put_where_nothing_was_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("MAGIC141_CACHE", str(tmp_path))
    students = {student.name for student in SHIPPED_STUDENTS.values()}
    assert set(unpack.unpack()) == {"vae", "clip", "llava", "t2v", "t2v_clips", "ti2v", *students}
    shipped, restored = shipped_dit(TI2V), teacher_weights("ti2v", train=False)
    assert shipped is not None
    assert all(torch.equal(restored[name], weight) for name, weight in shipped.items())
    drawn, told = shipped_dit(T2V), teacher_weights("t2v", train=False)
    assert drawn is not None
    assert all(torch.equal(told[name], weight) for name, weight in drawn.items())
    vae, narrow = Encoders.load_vae().state_dict(), narrow_network(shipped_vae_weights()).state_dict()
    assert all(torch.equal(vae[name], weight) for name, weight in narrow.items())
    assert Encoders.trained().llm_tokenizer is not None


def test_what_was_trained_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MAGIC141_CACHE", str(tmp_path))
    trained = stage_dir("ti2v") / "dit.safetensors"
    trained.write_bytes(b"trained for hours")
    assert "ti2v" not in unpack.unpack()
    assert trained.read_bytes() == b"trained for hours"
    assert unpack.unpack() == {}


def test_students_that_ship_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("MAGIC141_CACHE", str(tmp_path))
    unpack.unpack()
    experiment = Experiment.__new__(Experiment)
    experiment.plan, experiment.seed, experiment.folder = (
        PLANS["full"],
        0,
        stage_dir("experiment") / f"seed{SEED}",
    )
    experiment.teachers = {"ti2v": teacher_weights("ti2v", train=False)}
    experiment.train_set = SimpleNamespace(latents=torch.zeros(3, 1))
    for steps, student in SHIPPED_STUDENTS.items():
        experiment.train(student)
        shipped = shipped_student(experiment.teachers["ti2v"], steps)
        found = experiment.weights(student.name, "ti2v")
        assert all(torch.equal(found[name], weight) for name, weight in shipped.items())
    experiment.teachers = {"ti2v": {"other": torch.ones(1)}}
    with pytest.raises(ValueError, match="weights was"):
        experiment.train(SHIPPED_STUDENTS[2])
