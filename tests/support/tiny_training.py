"""A training of a few steps on a tiny model."""

import itertools

from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import Task, distill
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_source import TinySource

TINY = DistillConfig(
    total_steps=3,
    batch_size=2,
    rank=2,
    fake_rank=2,
    fake_updates=2,
    warmup_steps=0,
    few_steps=2,
    save_every=0,
    device="cpu",
)


def tiny_task(config, *, source=None, weights=None, **options):
    """Return the training of a tiny model on a tiny source, where no others are given."""
    return Task(config, TinySource() if source is None else source, weights or tiny_dit(), **options)


def train(config, folder, *, stop_after=None, stop_at_question=None, **options):
    """Return the model that a training ends with, and every step's report.

    Args:
        stop_after: stop after so many steps of this run.
        stop_at_question: stop, wherever that is, when it is asked for so many times whether to.
    """
    reports, questions = [], itertools.count(1)

    def should_stop():
        asked_enough = stop_at_question is not None and next(questions) >= stop_at_question
        return asked_enough or (stop_after is not None and len(reports) >= stop_after)

    model = distill(tiny_task(config, **options), folder, on_step=reports.append, should_stop=should_stop)
    return model, reports
