"""A training of a few steps on a tiny model."""

from magic141.model_patches.training.config import DistillConfig
from magic141.model_patches.training.distill import distill
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
    """Return the model that a training ends with, and every step's report."""
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
