"""What the base models learn from, on made-up latents and states."""

import pytest
import torch
from magic141.lab.models import dit
from magic141.lab.models.dit import CHOICE_SIGMAS, Noised
from magic141.lab.models.futures import Futures
from magic141.lab.models.motion_head import BLOCK, WEIGHT, MotionHead
from magic141.lab.models.source import WorldSource
from magic141.lab.world.scenes import NUM_MOTIONS
from magic141.model_patches.training.twin import from_host
from magic141.tests.support.made_up_world import COUNT, dataset
from magic141.tests.support.tiny_dit import tiny_dit


@pytest.mark.parametrize("image", [True, False])
def test_what_the_base_models_learn_from(image):
    source = WorldSource(dataset(), image=image, family_shares=(1.0, 0.0, 0.0))
    drawn = Noised.draw(source, 64, torch.Generator().manual_seed(4), still=not image)
    assert drawn.target.shape[2] == (4 if image else 1)
    of_empty_prompt = (drawn.conditions.pooled == source.data.null_pooled.float()).all(1)
    assert 0 < of_empty_prompt.sum() < 24
    lengths = drawn.conditions.mask.sum(1)
    assert (lengths[of_empty_prompt] == (7 if image else 2)).all()
    still_model = torch.nn.Linear(1, 1)
    still_model.forward = lambda hidden_states, **_: (torch.zeros_like(hidden_states[:, :16]),)
    loss = drawn.loss(still_model)
    assert torch.isclose(loss, (drawn.noisy - drawn.target).square().mean())
    sigma = drawn.sigma[:, None, None, None, None]
    noise = (drawn.noisy - (1 - sigma) * drawn.target) / sigma
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise * drawn.target).mean()) < 0.02
    drawn.loss(from_host(tiny_dit(33 if image else 16, patch=1)).train()).backward()


def test_several_known_futures_are_learned_as_their_mean():
    data = dataset()
    source = WorldSource(data, image=True, family_shares=(0.5, 0.5, 0.0))
    clips = data.latents[:, None, :, :4].repeat(1, 4, 1, 1, 1, 1)
    futures = Futures(-clips, torch.ones(COUNT, 4, dtype=torch.bool), torch.arange(4).expand(COUNT, 4))

    def draw(known: Futures | None) -> Noised:
        return Noised.draw(source, 64, torch.Generator().manual_seed(4), still=False, futures=known)

    plain, meant = draw(None), draw(futures)
    changed = (plain.target != meant.target).flatten(1).any(1)
    assert 0 < changed.sum() < 32
    assert torch.equal(meant.target[changed], -plain.target[changed])
    assert torch.allclose(
        meant.motions[changed][:, :4], torch.tensor(0.25)
    )  # clips that are alike tell nothing
    assert (meant.motions[~changed].amax(1) == 1).all()
    assert torch.equal(meant.noisy[~changed], plain.noisy[~changed])
    assert torch.equal(meant.sigma[~changed], plain.sigma[~changed])
    low, high = CHOICE_SIGMAS
    assert ((meant.sigma > low) & (meant.sigma < high))[changed].float().mean() > 0.7


def test_text_alone_learns_most_where_one_of_several_futures_is_chosen(monkeypatch):
    source = WorldSource(dataset(), image=False, family_shares=(0.5, 0.5, 0.0))

    def sigma() -> torch.Tensor:
        return Noised.draw(source, 256, torch.Generator().manual_seed(4), still=False).sigma

    chosen = sigma()
    monkeypatch.setattr(dit, "CHOICE_SHARE", 0.0)
    plain = sigma()
    changed = plain != chosen
    assert 60 < changed.sum() < 140  # four in five of the open captions, a tenth of which were dropped
    low, high = CHOICE_SIGMAS
    assert ((chosen >= low) & (chosen <= high))[changed].all()


def test_a_head_in_the_middle_learns_the_motion_and_teaches_the_layers_before_it():
    model = from_host(tiny_dit(33, patch=1, depth_single=3)).train()
    head = MotionHead(model, 128)
    source = WorldSource(dataset(), image=True, family_shares=(1.0, 0.0, 0.0))
    drawn = Noised.draw(source, 2, torch.Generator().manual_seed(4), still=False)
    motions = torch.nn.functional.one_hot(torch.tensor([3, 9]), NUM_MOTIONS).float()

    def loss() -> torch.Tensor:
        drawn.loss(model)
        return head.loss(motions)

    assert torch.isclose(loss(), WEIGHT * torch.tensor(NUM_MOTIONS).log())
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    loss().backward()
    optimizer.step()
    later = loss()
    assert later < 0.9 * WEIGHT * torch.tensor(NUM_MOTIONS).log()
    later.backward()
    told = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(name.startswith(f"single_transformer_blocks.{BLOCK}.") for name in told)
    assert not any(name.startswith(f"single_transformer_blocks.{BLOCK + 1}.") for name in told)
