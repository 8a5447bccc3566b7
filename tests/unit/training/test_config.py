"""Every setting of a training at and beyond its limits, and defaults that runs of other versions rely on."""

from dataclasses import asdict

import pytest
from magic141.model_patches.training.config import (
    GONE,
    DistillConfig,
    check_same_run,
    current_names,
    first_names,
)

DEFAULTS = {
    "stage": "dmd2",
    "total_steps": 400,
    "batch_size": 16,
    "micro_batch_size": 0,
    "seed": 0,
    "train": "lora",
    "rank": 32,
    "expand_input": False,
    "learning_rate": 1e-4,
    "final_learning_rate": 1e-4,
    "warmup_steps": 10,
    "beta1": 0.0,
    "beta2": 0.95,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "ema_decay": 0.99,
    "few_steps": 4,
    "shift": 5.0,
    "sampler": "euler",
    "ode_updates": 0,
    "ode_substeps": 2,
    "ode_learning_rate": 1e-3,
    "fake_updates": 5,
    "fake_warmup": 0,
    "fake_learning_rate": 2e-4,
    "fake_rank": 32,
    "real_shift": 0.25,
    "normalize": True,
    "guidance_w": 0.0,
    "guidance_w_min": 0.0,
    "guidance_w_max": 6.0,
    "cfg_weight": 1.0,
    "embedded_guidance": 6.0,
    "drop_caption": 0.1,
    "precision": "float32",
    "gradient_checkpointing": False,
    "sample_every": 0,
    "sample_clips": 4,
    "save_every": 100,
    "device": "auto",
    "sharded": True,
}


def test_defaults_are_those_of_every_version():
    """A run's config.json that lacks a setting was made with its default, so that a default can never change."""
    assert asdict(DistillConfig()) == DEFAULTS
    check_same_run({}, DEFAULTS, "run")


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [
        *((name, 1, 0) for name in ("total_steps", "batch_size", "rank", "few_steps")),
        *((name, 1, 0) for name in ("ode_substeps", "fake_rank", "sample_clips")),
        *((name, 1e-12, 0.0) for name in ("learning_rate", "ode_learning_rate", "fake_learning_rate")),
        *((name, 1e-12, 0.0) for name in ("shift", "clip_norm")),
        *((name, 0.0, -1e-12) for name in ("real_shift", "guidance_w", "guidance_w_min")),
        *(
            (name, 0, -1)
            for name in ("ode_updates", "fake_updates", "fake_warmup", "save_every", "sample_every")
        ),
        *((name, 0.0, -1e-12) for name in ("beta1", "beta2", "ema_decay")),
    ],
)
def test_the_least_value_is_taken_and_less_is_refused(name, least, below):
    assert getattr(DistillConfig(**{name: least}), name) == least
    with pytest.raises(ValueError, match=f"^{name} is {below}; it "):
        DistillConfig(**{name: below})


@pytest.mark.parametrize("name", ["beta1", "beta2", "ema_decay"])
def test_shares_stay_below_one(name):
    assert getattr(DistillConfig(**{name: 0.999999}), name) == 0.999999
    with pytest.raises(ValueError, match=f"{name} is 1.0; it must be 0 or more and less than 1"):
        DistillConfig(**{name: 1.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_setting_that_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"drop_caption is .*; it must be a finite number"):
        DistillConfig(drop_caption=value)


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (
            {"guidance_w_min": 6.0},
            {"guidance_w_min": 6.1},
            "guidance_w_max is 6.0, less than guidance_w_min, 6.1",
        ),
        ({"micro_batch_size": 8}, {"micro_batch_size": 7}, "multiple of micro_batch_size, 7"),
        ({"stage": "flow"}, {"stage": "flow", "ode_updates": 1}, 'both need stage "dmd2"'),
        ({"stage": "cfg"}, {"stage": "cfg", "fake_warmup": 1}, 'both need stage "dmd2"'),
        (
            {"total_steps": 5, "ode_updates": 5},
            {"total_steps": 5, "ode_updates": 6},
            "do not fit into total_steps",
        ),
        (
            {"total_steps": 5, "ode_updates": 2, "fake_warmup": 2},
            {"total_steps": 5, "ode_updates": 2, "fake_warmup": 3},
            "do not fit into total_steps",
        ),
        (
            {"stage": "flow", "train": "full", "expand_input": True},
            {"stage": "flow", "train": "lora", "expand_input": True},
            'expand_input needs stage "flow" and train "full"',
        ),
        (
            {"stage": "cfg", "train": "full"},
            {"stage": "cfg", "train": "full", "expand_input": True},
            'expand_input needs stage "flow" and train "full"',
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(good, bad, said):
    DistillConfig(**good)
    with pytest.raises(ValueError, match=said):
        DistillConfig(**bad)


def test_names_change_there_and_back():
    renamed = {
        "critic_learning_rate": "fake_learning_rate",
        "critic_rank": "fake_rank",
        "critic_updates": "fake_updates",
        "critic_warmup": "fake_warmup",
        "guidance": "guidance_w",
        "guidance_max": "guidance_w_max",
        "guidance_min": "guidance_w_min",
        "normalise": "normalize",
        "rollout": "sampler",
        "student_steps": "few_steps",
        "rank": "rank",
    }
    old = {before: number for number, before in enumerate(renamed)}
    assert current_names(old) == {after: number for number, after in enumerate(renamed.values())}
    assert first_names(current_names({"rollout": "euler"})) == {"rollout": "euler"}
    assert first_names({"rank": 2}) == {"rank": 2}


def test_what_may_change_is_not_compared_and_what_is_gone_is_missed_only_where_it_was_used():
    check_same_run({"device": "cuda", "save_every": 1}, DEFAULTS, "run")
    check_same_run({"sample_every": 5, "sample_clips": 1, "sharded": False}, DEFAULTS, "run")
    check_same_run(dict(GONE), DEFAULTS, "run")
    with pytest.raises(ValueError, match=r"run holds .*: ode_choice_weight was 0.5 and is now None\."):
        check_same_run({"ode_choice_weight": 0.5}, DEFAULTS, "run")
    with pytest.raises(ValueError, match=r": rank was 4 and is now 32; shift was 3 and is now 5.0\."):
        check_same_run({"rank": 4, "shift": 3}, DEFAULTS, "run")


def test_a_run_that_does_not_know_its_set_was_on_this_one():
    wanted = DEFAULTS | {"set_content": "this"}
    check_same_run({}, wanted, "run")
    with pytest.raises(ValueError, match="set_content was 'other' and is now 'this'"):
        check_same_run({"set_content": "other"}, wanted, "run")
