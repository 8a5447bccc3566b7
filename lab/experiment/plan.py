"""The size of the distillation experiment: which students, and how much is measured of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .students import (
    ABLATIONS,
    ARMS,
    CFG,
    CHOOSING,
    LONG,
    LONG_DMD2,
    UNSEEN_2_STEPS,
    Student,
    few_step,
    ode_only,
)

EULER_STEPS = (1, 2, 4, 8, 16, 28, 56)


@dataclass(frozen=True)
class Plan:
    """The size of an experiment: students, their updates and batch, clips per row, prompts for coverage."""

    students: tuple[Student, ...]
    updates: int
    batch_size: int
    clips: int
    coverage_prompts: int
    euler_steps: tuple[int, ...]

    def only(self, names: Sequence[str]) -> "Plan":
        """Return the plan with these students alone, and nothing to measure of the teachers.

        Raises:
            ValueError: the plan has no such student.
        """
        students = {student.name: student for student in self.students}
        if missing := [name for name in names if name not in students]:
            raise ValueError(f"The plan has no {', '.join(missing)}. It has: {', '.join(students)}.")
        return replace(self, students=tuple(students[name] for name in names), euler_steps=())


PLANS = {
    "subset": Plan(
        (
            *(student(arm, 4) for arm in ARMS for student in (ode_only, few_step)),
            ode_only("ti2v", 2),
            *ABLATIONS[:5],
            CFG,
        ),
        updates=40,
        batch_size=8,
        clips=200,
        coverage_prompts=16,
        euler_steps=EULER_STEPS,
    ),
    "full": Plan(
        (
            *(student("ti2v", n) for n in (4, 1, 8) for student in (ode_only, few_step)),
            *(student("t2v", n) for n in (4, 2, 1, 8) for student in (ode_only, few_step)),
            ode_only("ti2v", 2),
            CHOOSING,
            LONG,
            LONG_DMD2,
            UNSEEN_2_STEPS,
            *ABLATIONS,
            CFG,
        ),
        updates=400,
        batch_size=16,
        clips=500,
        coverage_prompts=48,
        euler_steps=EULER_STEPS,
    ),
    "ablations": Plan(
        (
            *(ode_only("ti2v", n) for n in (2, 1, 8)),
            UNSEEN_2_STEPS,
            *ABLATIONS,
            ode_only("ti2v", 4),
            CHOOSING,
            LONG,
            LONG_DMD2,
        ),
        updates=100,
        batch_size=8,
        clips=200,
        coverage_prompts=16,
        euler_steps=(1, 2, 4, 8),
    ),
    "trial": Plan(
        (Student("ti2v_2step", "ti2v", {"few_steps": 2, "ode_updates": 1, "fake_warmup": 1}),),
        updates=2,
        batch_size=2,
        clips=8,
        coverage_prompts=2,
        euler_steps=(1, 2),
    ),
}
