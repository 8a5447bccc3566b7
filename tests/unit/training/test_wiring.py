"""What each stage asks its networks, and what it makes of the answers: sigmas, guidance, schedules, averages."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from magic141.model_patches.sampler import few_step_sigmas
from magic141.model_patches.training import stages
from magic141.model_patches.training.adapters import FAKE, STUDENT, Role, adapter_parameters
from magic141.model_patches.training.checkpoint import RunFolder
from magic141.model_patches.training.networks import Networks, build_networks
from magic141.model_patches.training.parallel import this_process
from magic141.model_patches.training.sampling import draw_sigma, shifted
from magic141.model_patches.training.stages import Micro
from magic141.model_patches.training.trainer import Trainer
from magic141.model_patches.training.twin import Conditions
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY, tiny_task
from torch import Tensor

W = 1.5
ROLES = ("student", "teacher", "real", "fake")


@dataclass(frozen=True)
class Call:
    """What a role was asked, and its answer."""

    noisy: Tensor
    sigma: Tensor
    conditions: Conditions
    velocity: Tensor

    @property
    def clean(self) -> Tensor:
        return self.noisy - self.sigma.view(-1, 1, 1, 1, 1) * self.velocity


@dataclass(frozen=True)
class Recorded(Role):
    """A role that keeps what it is asked."""

    calls: list[Call] = field(default_factory=list)

    def velocity(self, noisy: Tensor, sigma: Tensor, conditions: Conditions) -> Tensor:
        answer = super().velocity(noisy, sigma, conditions)
        self.calls.append(Call(noisy.detach(), sigma, conditions, answer.detach()))
        return answer


def recorded(config, *, guidance: bool = False) -> Networks:
    """Return networks whose adapters hold random values, and whose roles keep what they are asked."""
    networks = build_networks(config, tiny_dit(guidance=guidance), "cpu")
    generator = torch.Generator().manual_seed(7)
    for name in (STUDENT, FAKE):
        for parameter in adapter_parameters(networks.student.model, name).values():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    roles = {name: role for name in ROLES if (role := getattr(networks, name)) is not None}
    return replace(networks, **{name: Recorded(**vars(role)) for name, role in roles.items()})


def micro(config, networks: Networks, *, last_call: int = 1, seed: int = 0) -> Micro:
    generator = torch.Generator().manual_seed(seed)
    batch = TinySource().batch(torch.arange(3), generator)
    return Micro(config, networks, batch, generator, last_call)


def is_empty_prompt(call: Call) -> bool:
    return not call.conditions.states.any()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("guidance", [0.0, W])
def test_dmd_leads_to_the_guided_real_model(guidance, normalize):
    """Equation 4 with u_real of equation 7, from what the networks answered."""
    config = replace(TINY, guidance_w=guidance, normalize=normalize)
    networks = recorded(config)
    losses = stages.generator_losses(micro(config, networks))
    prompted = networks.real.calls[0]
    empty = [call for call in networks.real.calls if is_empty_prompt(call)]
    assert len(empty) == (guidance > 0)
    unguided = empty[0].velocity if empty else prompted.velocity
    (fake,) = networks.fake.calls
    sigma = prompted.sigma.view(-1, 1, 1, 1, 1)
    real = prompted.noisy - sigma * ((1 + guidance) * prompted.velocity - guidance * unguided)
    generated = networks.student.calls[-1].clean
    gradient = fake.clean - real
    if normalize:
        gradient = gradient / (generated - real).abs().mean((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(losses["gradient"], gradient.abs().mean(), rtol=1e-4, atol=0)
    expected = 0.5 * gradient.double().square().mean()
    torch.testing.assert_close(losses["generator"].detach(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("shift", "end"), [(1e7, 0.98), (1e-7, 0.02)])
def test_real_and_fake_model_are_kept_off_the_ends_of_the_schedule(shift, end):
    config = replace(TINY, shift=1.0)
    networks = recorded(config)
    drawn = replace(micro(config, networks), config=replace(config, shift=shift))
    generated = torch.zeros_like(drawn.batch.latents)
    stages._dmd_gradient(drawn, generated)
    drawn = replace(drawn, last_call=0)
    stages.fake_losses(drawn)
    calls = [*networks.real.calls, *networks.fake.calls]
    assert len(calls) == 3
    for call in calls:
        torch.testing.assert_close(call.sigma, torch.full_like(call.sigma, end))


def test_the_fake_model_learns_what_the_student_makes():
    networks = recorded(TINY)
    losses = stages.fake_losses(micro(TINY, networks))
    generated, (fake,) = networks.student.calls[-1].clean, networks.fake.calls
    sigma = fake.sigma.view(-1, 1, 1, 1, 1)
    noise = (fake.noisy - (1 - sigma) * generated) / sigma
    expected = (fake.velocity - (noise - generated)).square().mean()
    torch.testing.assert_close(losses["critic"].detach(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_noise_levels_are_shifted_as_the_schedule_is(shift):
    steps = torch.linspace(1.0, 0.0, 9)
    torch.testing.assert_close(shifted(steps, shift), few_step_sigmas(8, shift))
    generator, same = (torch.Generator().manual_seed(1) for _ in range(2))
    uniform = torch.rand(5, generator=same)
    torch.testing.assert_close(draw_sigma(5, shift, generator), shift * uniform / (1 + (shift - 1) * uniform))


def test_the_cfg_student_is_told_the_scale_that_it_matches():
    """The host's g: the target is u + g (c - u), and the base loss is told g = 1."""
    config = replace(
        TINY, stage="cfg", guidance_w_min=2.0, guidance_w_max=4.0, drop_caption=0.0, cfg_weight=2.0
    )
    networks = recorded(config, guidance=True)
    losses = stages.cfg_losses(micro(config, networks))
    prompted, empty = networks.teacher.calls
    matched, base = networks.student.calls
    scale = matched.conditions.guidance
    assert ((scale >= 3) & (scale <= 5)).all()
    assert len(set(scale.tolist())) == 3
    g = scale.view(-1, 1, 1, 1, 1)
    assert not is_empty_prompt(prompted)
    assert is_empty_prompt(empty)
    target = empty.velocity + g * (prompted.velocity - empty.velocity)
    torch.testing.assert_close(losses["cfg"].detach(), (matched.velocity - target).square().mean())
    torch.testing.assert_close(losses["loss"], 2 * losses["cfg"] + losses["base"])
    for call in (prompted, empty, base):
        assert call.conditions.guidance.tolist() == [1.0] * 3


def test_an_embedder_is_told_the_usual_scale_but_where_clips_are_learned():
    config = replace(TINY, guidance_w=W, ode_updates=1)
    networks = recorded(config, guidance=True)
    stages.generator_losses(micro(config, networks))
    stages.ode_losses(micro(config, networks))
    calls = [call for name in ROLES for call in getattr(networks, name).calls]
    assert {scale for call in calls for scale in call.conditions.guidance.tolist()} == {6.0}
    flow = recorded(replace(config, stage="flow", ode_updates=0), guidance=True)
    stages.flow_losses(micro(config, flow))
    assert [call.conditions.guidance.tolist() for call in flow.student.calls] == [[1.0] * 3]


@pytest.mark.parametrize("last_call", [0, 1, 2])
@pytest.mark.parametrize("sampler", ["euler", "renoise"])
def test_the_students_clip_ends_with_its_last_call(sampler, last_call):
    config = replace(TINY, few_steps=3, sampler=sampler, shift=3.0)
    networks, sigmas = recorded(config), few_step_sigmas(3, config.shift)
    stages.student_clip(micro(config, networks, last_call=last_call))
    assert [call.sigma[0].item() for call in networks.student.calls] == sigmas[: last_call + 1].tolist()
    step = stages.student_step(micro(config, networks, last_call=last_call))
    assert [step.sigma, step.following] == sigmas[last_call : last_call + 2].tolist()


def test_the_teacher_covers_one_step_of_the_student():
    config = replace(TINY, few_steps=3, ode_substeps=2, ode_updates=1, guidance_w=W, shift=3.0)
    networks = recorded(config)
    stages.ode_losses(micro(config, networks, last_call=1))
    covered = few_step_sigmas(6, config.shift)[2:4].tolist()
    for empty in (False, True):
        asked = [call for call in networks.teacher.calls if is_empty_prompt(call) == empty]
        assert [call.sigma[0].item() for call in asked] == covered


def test_averaged_weights_move_faster_at_first_and_then_by_the_decay(tmp_path):
    config = replace(TINY, total_steps=40, ema_decay=0.5, fake_updates=1)
    task, place = tiny_task(config), this_process()
    trainer = Trainer(task, build_networks(config, task.weights, "cpu"), place, RunFolder(tmp_path))
    for step, decay in ((0, 1 / 10), (1, 2 / 11), (30, 0.5)):
        before = {name: value.clone() for name, value in trainer.average.items()}
        trainer.step = step
        trainer._step()
        for name, weight in trainer.parameters[STUDENT].items():
            expected = decay * before[name] + (1 - decay) * weight.detach()
            torch.testing.assert_close(trainer.average[name], expected)
        moved = max((trainer.average[name] - before[name]).abs().max() for name in before)
        assert moved > 0


def test_sample_clips_follow_the_whole_schedule(tmp_path):
    config = replace(TINY, few_steps=3, sample_clips=2, shift=3.0)
    task, networks = tiny_task(config), recorded(config)
    trainer = Trainer(task, networks, this_process(), RunFolder(tmp_path))
    clips, _ = trainer.sample()
    sigmas = few_step_sigmas(3, config.shift)
    assert [call.sigma[0].item() for call in networks.student.calls] == sigmas[:-1].tolist()
    torch.testing.assert_close(clips, networks.student.calls[-1].clean)


def test_roles_weight_the_fake_models_branch():
    networks = build_networks(replace(TINY, real_shift=0.3), tiny_dit(), "cpu")
    weights = {name: dict(getattr(networks, name).weights) for name in ROLES}
    assert weights == {"student": {STUDENT: 1.0}, "teacher": {}, "real": {FAKE: 0.3}, "fake": {FAKE: 1.0}}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"stage": "flow"}, set()),
        ({"stage": "flow", "train": "full"}, set()),
        ({"stage": "cfg", "train": "full"}, {"teacher"}),
        ({"stage": "dmd2"}, {"teacher", "real", "fake"}),
    ],
)
def test_every_stage_has_the_roles_that_it_asks(changes, wanted):
    config = replace(TINY, **changes)
    networks = build_networks(config, tiny_dit(), "cpu")
    assert {name for name in ROLES[1:] if getattr(networks, name) is not None} == wanted
    assert set(networks.parameters(config)) == {STUDENT, *({FAKE} if "fake" in wanted else ())}
    assert len(networks.modules) == (2 if changes.get("train") == "full" and wanted else 1)


def test_the_updates_of_every_step_and_their_names_which_seed_them():
    """Another name is another training: a run that is resumed would not repeat its losses."""

    def told(config, step: int) -> list[tuple]:
        networks = build_networks(config, tiny_dit(), "cpu")
        roles = {id(getattr(networks, name)): name for name in ROLES}
        return [
            (phase.name, phase.learner, roles[id(phase.role)], phase.losses)
            for phase in stages.phases(config, networks, step)
        ]

    config = replace(TINY, total_steps=6, ode_updates=1, fake_warmup=2)
    critics = [(f"critic{i}", FAKE, "fake", stages.fake_losses) for i in range(2)]
    student = ("student", STUDENT, "student")
    assert told(config, 0) == [(*student, stages.ode_losses)]
    assert told(config, 1) == told(config, 2) == critics
    assert told(config, 3) == [*critics, (*student, stages.generator_losses)]
    for stage, losses in (("flow", stages.flow_losses), ("cfg", stages.cfg_losses)):
        assert told(replace(TINY, stage=stage, train="full"), 0) == [(*student, losses)]


def test_motion_is_the_change_from_frame_to_frame_over_that_of_the_data():
    clean = torch.tensor([0.0, 1.0, 1.0, 3.0]).view(1, 1, 4, 1, 1)
    assert stages.relative_motion(clean / 2, clean) == 0.5
    assert stages.relative_motion(clean[:, :, :2] * 3, clean[:, :, :2]) == 3
    assert stages.relative_motion(torch.ones_like(clean), clean) == 0
    assert stages.relative_motion(clean, torch.ones_like(clean)) == pytest.approx(1e6)
    assert stages.relative_motion(clean[:, :, :1], clean[:, :, :1]).isnan()
