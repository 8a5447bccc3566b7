"""A student that starts elsewhere than at its teacher."""

from dataclasses import replace

import pytest
import torch
from magic141.model_patches.training.adapters import (
    STUDENT,
    adapter_parameters,
    add_adapters,
    lora_for_host,
    merge_lora,
)
from magic141.model_patches.training.distill import Task, distill
from magic141.model_patches.training.networks import build_networks
from magic141.model_patches.training.start import leading_directions
from magic141.model_patches.training.twin import from_host
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource
from magic141.tests.support.tiny_training import TINY

CONFIG = replace(TINY, total_steps=1, rank=3, fake_updates=1, warmup_steps=10, save_every=1)


@pytest.fixture(scope="module")
def lora() -> dict:
    """Return a LoRA of rank 3 as a training leaves it."""
    model = from_host(tiny_dit())
    add_adapters(model, {STUDENT: 3}, seed=5)
    generator = torch.Generator().manual_seed(1)
    parameters = adapter_parameters(model, STUDENT)
    return lora_for_host(
        {name: torch.randn(p.shape, generator=generator) * 0.05 for name, p in parameters.items()}
    )


def changes(lora) -> dict:
    host = tiny_dit()
    return {key: weight for key, weight in merge_lora(host, lora).items() if weight is not host[key]}


def learned(networks) -> dict:
    return {k: p.detach() for k, p in networks.parameters(CONFIG)[STUDENT].items()}


@pytest.mark.parametrize("rank", [3, 5])
def test_a_lora_starts_as_another_lora(lora, rank):
    start = changes(lora)
    networks = build_networks(replace(CONFIG, rank=rank), tiny_dit(), "cpu", start)
    merged = merge_lora(tiny_dit(), lora_for_host(learned(networks)))
    assert max((merged[key] - start[key]).abs().max() for key in start) < 1e-5
    plain = learned(build_networks(replace(CONFIG, rank=rank), tiny_dit(), "cpu"))
    for name, weight in learned(networks).items():
        if ".lora_A." in name:
            ratio = weight.norm() / plain[name].norm()
            assert 0.8 < ratio < 1.25, "factors A are as long as those that are drawn"


def test_all_weights_start_there_too(lora):
    networks = build_networks(replace(CONFIG, train="full"), tiny_dit(), "cpu", changes(lora))
    for role, host in ((networks.student, merge_lora(tiny_dit(), lora)), (networks.teacher, tiny_dit())):
        values = {name.replace(".base_layer", ""): value for name, value in role.model.state_dict().items()}
        assert all(torch.equal(values[name], value) for name, value in from_host(host).state_dict().items())


def test_training_goes_on_from_there(lora, tmp_path):
    start = changes(lora)
    slow = replace(CONFIG, learning_rate=1e-9, final_learning_rate=1e-9)
    made = distill(Task(slow, TinySource(), tiny_dit(), start), tmp_path).full()
    assert max((made[key] - start[key]).abs().max() for key in start) < 1e-4
    again = replace(slow, total_steps=1)
    with pytest.raises(ValueError, match=r"start was '[0-9a-f]{16}' and is now None"):
        distill(Task(again, TinySource(), tiny_dit()), tmp_path)


def test_a_lower_rank_is_refused(lora):
    with pytest.raises(ValueError, match=r"0\.\d\d of the difference would be lost\. Raise rank"):
        build_networks(replace(CONFIG, rank=1), tiny_dit(), "cpu", changes(lora))


def test_weights_that_a_lora_does_not_change_are_refused():
    key = "img_in.proj.weight"
    start = {key: tiny_dit()[key] + 1}
    with pytest.raises(
        ValueError, match=r"differs in x_embedder\.proj\.weight, which a LoRA cannot change\. Set train"
    ):
        build_networks(CONFIG, tiny_dit(), "cpu", start)
    full = build_networks(replace(CONFIG, train="full"), tiny_dit(), "cpu", start)
    assert torch.equal(full.student.model.state_dict()["x_embedder.proj.weight"], start[key])


def test_another_model_is_refused():
    with pytest.raises(ValueError, match=r"another model than its teacher: img_in\.proj\.weight is"):
        build_networks(CONFIG, tiny_dit(), "cpu", tiny_dit(16))
    with pytest.raises(ValueError, match=r"guidance_in\S+ is .* the teacher has no such weight"):
        build_networks(CONFIG, tiny_dit(), "cpu", tiny_dit(guidance=True))


@pytest.mark.parametrize(("second", "lost"), [(1.0, 0.71), (0.5, 0.45), (0.11, 0.11), (0.09, None)])
def test_the_share_that_a_low_rank_loses_is_told(second, lost):
    """Of a difference of two directions, of which adapters of rank 1 hold the first."""
    key = "double_blocks.0.img_mlp.0.weight"
    start = tiny_dit()[key].clone()
    start[0, 0] += 10
    start[1, 1] += 10 * second
    config = replace(CONFIG, rank=1)
    if lost is None:
        assert build_networks(config, tiny_dit(), "cpu", {key: start})
        return
    with pytest.raises(
        ValueError, match=f"too little of the student to start from: {lost:.2f} of the difference"
    ):
        build_networks(config, tiny_dit(), "cpu", {key: start})


def test_the_same_model_is_a_start_that_changes_nothing():
    networks = build_networks(CONFIG, tiny_dit(), "cpu", tiny_dit())
    assert all(value.abs().max() == 0 for name, value in learned(networks).items() if ".lora_B." in name)


def test_a_matrix_is_its_leading_directions():
    matrix = torch.diag(torch.tensor([5.0, 4.0, 3.0, 0.0]))[:, :3]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    left, sizes, right = leading_directions(matrix, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert (left.shape, sizes.shape, right.shape) == ((4, 2), (2,), (2, 3))
    torch.testing.assert_close(sizes, torch.tensor([5.0, 4.0]))
    wanted = torch.diag(torch.tensor([5.0, 4.0, 0.0, 0.0]))[:, :3]
    torch.testing.assert_close(left @ torch.diag(sizes) @ right, wanted, atol=1e-5, rtol=0)
    assert leading_directions(matrix, 9)[1].shape == (3,)


def test_directions_are_as_long_as_those_that_are_drawn():
    key = "double_blocks.0.img_mlp.0.weight"
    start = tiny_dit()[key].clone()
    start[0, 0] += 10
    model = build_networks(replace(CONFIG, rank=2), tiny_dit(), "cpu", {key: start}).student.model
    down = adapter_parameters(model, STUDENT)["transformer_blocks.0.ff.net.0.proj.lora_A.student.weight"]
    assert float(down[0].detach().norm()) == pytest.approx(3**-0.5, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_is_added_in_the_precision_of_the_weights(lora, dtype):
    host = tiny_dit(dtype=dtype)
    merged = merge_lora(host, {key: value.bfloat16() for key, value in lora.items()})
    assert {value.dtype for value in merged.values()} == {dtype}
    key = "double_blocks.0.img_mlp.0.weight"
    name = f"diffusion_model.{key.removesuffix('.weight')}"
    down, up = (lora[f"{name}.lora_{part}.weight"].bfloat16().float() for part in "AB")
    assert torch.equal(merged[key], (host[key].float() + up @ down).to(dtype))
    assert merged["img_in.proj.weight"] is host["img_in.proj.weight"]
