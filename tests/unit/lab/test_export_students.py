"""Students ship as LoRAs of the very weights that ship."""

import pytest
import torch
from magic141.lab.experiment import export as export_students
from magic141.lab.experiment.export import SEED
from magic141.lab.experiment.student_files import LORA, save_model
from magic141.lab.experiment.students import SHIPPED_STUDENTS
from magic141.lab.models import export, shipped
from magic141.model_patches.training.checkpoint import fingerprint
from magic141.tests.support.tiny_dit import tiny_dit
from safetensors.torch import save_file

MODULE = "double_blocks.0.img_attn.proj"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Return the experiment's folder beside models that hold a tiny teacher."""
    models = tmp_path / "models"
    (models / "diffusion_models").mkdir(parents=True)
    monkeypatch.setattr(export, "MODELS", models)
    monkeypatch.setattr(shipped, "MODELS", models)
    monkeypatch.setattr(shipped, "DITS", models / "diffusion_models")
    save_file(tiny_dit(), models / "diffusion_models" / f"{shipped.TI2V}.safetensors")
    experiment = tmp_path / "experiment"
    (experiment / f"seed{SEED}").mkdir(parents=True)
    return experiment


def train_two_steps(experiment, teacher_fingerprint: str) -> None:
    width = tiny_dit()[f"{MODULE}.weight"].shape[0]
    lora = {
        f"diffusion_model.{MODULE}.lora_A.weight": torch.ones(1, width),
        f"diffusion_model.{MODULE}.lora_B.weight": torch.ones(width, 1),
    }
    save_model(
        lora,
        experiment / f"seed{SEED}" / f"{SHIPPED_STUDENTS[2].name}{LORA}",
        {"weights": teacher_fingerprint},
    )


def test_a_student_is_written_as_a_lora_and_read_back_onto_its_teacher(folders):
    teacher = shipped.shipped_dit(shipped.TI2V)
    train_two_steps(folders, fingerprint(teacher))
    assert list(export_students.export_students(folders)) == [shipped.student_file(2)]
    assert (export.MODELS / shipped.student_file(2)).with_suffix(".md").exists()
    student = shipped.shipped_student(teacher, 2)
    torch.testing.assert_close(student[f"{MODULE}.weight"], teacher[f"{MODULE}.weight"] + 1)
    assert shipped.shipped_student(teacher, 4) is None


def test_a_student_of_another_teacher_is_refused(folders):
    train_two_steps(folders, "another")
    with pytest.raises(
        ValueError, match=r"ti2v_2step_lora.* was distilled from other weights .another. than"
    ):
        export_students.export_students(folders)


def test_students_need_their_teacher_first(folders):
    (shipped.DITS / f"{shipped.TI2V}.safetensors").unlink()
    with pytest.raises(ValueError, match="first"):
        export_students.export_students(folders)


def test_the_guidance_distilled_student_is_written_whole(folders):
    made_of = {"weights": fingerprint(shipped.shipped_dit(shipped.TI2V))}
    save_model(tiny_dit(), folders / f"seed{SEED}" / "ti2v_cfg.safetensors", made_of)
    export_students.export_students(folders)
    assert shipped.shipped_dit(shipped.GUIDED).keys() == tiny_dit().keys()
