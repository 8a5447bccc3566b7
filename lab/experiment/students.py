"""The students of the distillation experiment: arms, settings, ablations, and which of them ship."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...model_patches.training.config import DistillConfig
from ..models.lessons import Lessons
from ..models.source import NAMED, OPEN

CURVE = ".curve.jsonl"
"""Suffix of the file with a student's clean clips during training."""
GUIDANCE_W = 1.0
"""w of eq. 7 with which the teacher makes the cleanest clips, and which few-step students fold in."""
DMD = {"guidance_w": 0.5, "real_shift": 0.0}
"""How DMD2 differs here from the paper. Without guidance students of this teacher stop moving; with more, or with the
paper's shift of 0.25, they move more and more and their pictures turn hard."""
KNOWN_SHARES = (0.6, 0.35, 0.05)
"""Of 1, 2 or 3 known latents: more windows that start from one picture than in a teacher's training, because only there
is the future open; the others keep a student able to continue a video."""
ODE_ONLY = "_ode"
ODE_STEPS, ODE_UPDATES = 8, 300
"""Steps of the guided teacher that a student's few steps first learn to cover, and for how many updates."""
RANKS = {4: 32}
"""By a student's steps, where it differs from ``BASE``: the shipped 4-step student also learns long videos."""
BASE = DistillConfig(
    stage="dmd2",
    train="lora",
    rank=16,
    total_steps=500,
    batch_size=16,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
    fake_learning_rate=4e-4,
    fake_rank=64,
    fake_warmup=200,
    guidance_w=GUIDANCE_W,
    ema_decay=0.98,
    precision="auto",
    sample_every=10,
    sample_clips=64,
    save_every=20,
)


PLAIN = Lessons()


@dataclass(frozen=True)
class Arm:
    """Image-to-video or text-to-video: its teacher, and the shares of captions in distillation.

    stages: trained one after another; the last one is the teacher.
    curve_family: the captions that its students' curves are measured on. With a first frame few steps lose nothing on
    named captions; from text alone even these leave the picture open, and open ones are too hard for the teacher.
    """

    name: str
    image: bool
    stages: tuple[str, ...]
    curve_family: int
    family_shares: tuple[float, float, float]


ARMS = {
    "ti2v": Arm("ti2v", True, ("ti2v",), OPEN, (0.5, 0.5, 0.0)),
    "t2v": Arm("t2v", False, ("t2v", "t2v_clips"), NAMED, (0.75, 0.25, 0.0)),
}


@dataclass(frozen=True)
class Student:
    """One training: settings that differ from ``BASE``, and whether the VLM's image states are given.

    start: the student whose weights this one starts from; the teacher if empty.
    after: the student whose training this one continues, if that is done.
    family_shares, known_shares: how often captions and known latents are drawn; if empty, the arm's families.
    long_videos: how many long videos the ``start`` student makes first, from whose hand-overs this one learns; see
        ``answers``.
    lessons: the parts of its training that only the lab has.
    """

    name: str
    arm: str
    settings: Mapping[str, object] = field(default_factory=dict)
    image_states: bool = True
    start: str = ""
    after: str = ""
    family_shares: tuple[float, ...] = ()
    known_shares: tuple[float, ...] = KNOWN_SHARES
    long_videos: int = 0
    lessons: Lessons = PLAIN

    def config(self, seed: int, updates: int, batch_size: int) -> DistillConfig:
        settings = {
            "batch_size": batch_size,
            "ode_updates": BASE.ode_updates,
            "fake_warmup": BASE.fake_warmup,
            **self.settings,
            "seed": seed,
        }
        steps = settings["ode_updates"] + settings["fake_warmup"] + updates
        config = replace(BASE, **{"total_steps": steps, **settings})
        self.lessons.check(config)
        return config


def ode_settings(updates: int) -> dict[str, object]:
    """Return the settings of a student that follows the teacher's ODE alone."""
    return {"fake_warmup": 0, "ode_updates": updates, "total_steps": updates}


def ode_only(arm: str, steps: int) -> Student:
    """Return a student that follows the guided teacher's ODE."""
    settings = {"few_steps": steps, "rank": RANKS.get(steps, BASE.rank)}
    covered = {"ode_substeps": max(2, ODE_STEPS // steps)}
    return Student(f"{arm}_{steps}step{ODE_ONLY}", arm, {**settings, **covered, **ode_settings(ODE_UPDATES)})


def few_step(arm: str, steps: int) -> Student:
    """Return a student that learns by DMD2, and starts from the one that follows the teacher's ODE."""
    settings = {"few_steps": steps, "rank": RANKS.get(steps, BASE.rank), **DMD}
    return Student(f"{arm}_{steps}step", arm, settings, start=ode_only(arm, steps).name)


def going_on(before: Student, name: str, updates: int, **settings: object) -> Student:
    """Return a student of the ODE that starts from another one, with other settings."""
    settings = {**before.settings, **settings, **ode_settings(updates)}
    return replace(before, name=name, settings=settings, start=before.name)


def ablation(name: str, *, after: str = "", **settings: object) -> Student:
    """Return the 2-step image-to-video student with one change: with two steps DMD2 has the most to gain."""
    student = few_step("ti2v", 2)
    return replace(student, name=name, settings={**student.settings, **settings}, after=after)


WARM_UP = ablation("ti2v_2step_warm_up", total_steps=BASE.fake_warmup + 1)
"""The fake model's warm-up and one update, shared by all ablations of what comes after it."""
CHOOSING = replace(
    going_on(
        ode_only("ti2v", 4),
        "ti2v_4step_choosing",
        300,
        batch_size=16,
        beta1=0.9,
        ode_substeps=4,
    ),
    lessons=Lessons(ode_call_shares=(0.1, 0.15, 0.5, 0.25)),
    family_shares=(0.3, 0.7, 0.0),
    known_shares=(0.8, 0.2, 0.0),
)
"""Trains most the call that loses most: the one that chooses one of several futures, from sigma 0.83 to 0.63."""
LONG = replace(
    going_on(
        CHOOSING,
        "ti2v_4step_long",
        600,
        batch_size=32,
    ),
    lessons=Lessons(ode_call_shares=(0.2, 0.22, 0.36, 0.22), ode_choice_weight=30.0),
    family_shares=(0.15, 0.85, 0.0),
    known_shares=(0.3, 0.7, 0.0),
    long_videos=720,
)
"""Also learns from its own long videos: to return to the caption's direction when an object has turned."""
LONG_DMD2 = replace(
    few_step("ti2v", 4),
    name="ti2v_4step_long_dmd2",
    start=LONG.name,
    lessons=Lessons(dmd_call_shares=(0.0, 0.0, 0.5, 0.5)),
    family_shares=(0.3, 0.7, 0.0),
    known_shares=(1.0, 0.0, 0.0),
)
"""DMD2 after that, in the two last calls, and on first windows alone: for turned hand-overs it is better than its
teacher."""
PLAYED_WINDOWS, PLAYED_OPEN_SHARE = 10, 0.8
"""Windows of each long video, and the share of videos with open captions: with others objects hardly ever turn."""
TWO_STEPS = ablation(few_step("ti2v", 2).name, after=WARM_UP.name)
"""The baseline of the ablations of DMD2: nothing is changed."""
SHIPPED_STUDENTS = {4: LONG, 2: TWO_STEPS}
"""By their number of steps."""
#: The most informative first; a plan has all or the first few of them.
ABLATIONS = (
    WARM_UP,
    TWO_STEPS,
    *(
        ablation(name, after=WARM_UP.name, **settings)
        for name, settings in {
            "no_normaliser": {"normalize": False},
            "real_shift_quarter": {"real_shift": 0.25},
            "real_shift_half": {"real_shift": 0.5},
            "no_guidance": {"guidance_w": 0.0},
            "full_guidance": {"guidance_w": GUIDANCE_W},
            "rate_low": {"learning_rate": 3e-5, "final_learning_rate": 3e-5},
            "rate_high": {"learning_rate": 3e-4, "final_learning_rate": 3e-4},
        }.items()
    ),
    ablation("short_critic_warmup", fake_warmup=20),
    ablation("renoise", sampler="renoise"),
    replace(ablation("no_ode"), start=""),
)
UNSEEN_2_STEPS = replace(ode_only("ti2v", 2), name="ti2v_2step_ode_no_image_states", image_states=False)
"""Shows best whether the VLM's view of the first frame speeds up distillation: 2 steps have the most to gain."""
CFG = Student(
    "ti2v_cfg",
    "ti2v",
    {
        "stage": "cfg",
        "train": "full",
        "beta1": 0.9,
        "learning_rate": 7e-4,
        "final_learning_rate": 5e-5,
        "total_steps": 800,
        "batch_size": 16,
        "sample_every": 0,
        "ode_updates": 0,
        "fake_warmup": 0,
        "cfg_weight": 4.0,
        "guidance_w_min": 1.0,
    },
)
