"""The inputs of Distill to Few Steps, by subject."""

from comfy_api.latest import io

from ..model_patches.sampler import DEFAULT_SHIFT, DEFAULT_STEPS, SAMPLERS

METHODS = {
    "few steps (DMD2)": "dmd2",
    "guidance in one pass (CFG distillation)": "cfg",
    "fine-tune (flow matching)": "flow",
}
TRAIN = {"LoRA": "lora", "full": "full"}
MOST_CFG = 30.0


def what_inputs() -> list:
    """Return the sockets and what comes out."""
    return [
        io.Model.Input(
            "model",
            tooltip="The model to learn from and to train: a HunyuanVideo-layout MODEL with plain weights (bf16, fp16, "
            "fp32). LoRAs on it count as part of it.",
        ),
        io.String.Input(
            "training_set", default="my videos", tooltip="Name of a training set: from Build Training Set."
        ),
        io.Vae.Input("vae", tooltip="Decodes the sample clips: the VAE the set was built with."),
        io.Combo.Input(
            "method",
            options=list(METHODS),
            tooltip="DMD2 makes a few-step model. CFG distillation puts the strength of guidance into the model as an "
            "input (needs train: full). Flow matching is plain training: a text-to-video model becomes an "
            "image-to-video one (train: full), or a model learns your clips.",
        ),
        io.Combo.Input(
            "train",
            options=list(TRAIN),
            tooltip="LoRA: small, opens in stock LoraLoaderModelOnly, fits the same model only. full: a whole "
            "checkpoint, for small models; it needs more than ten times the memory of the bf16 weights.",
        ),
        io.Int.Input(
            "few_steps",
            default=DEFAULT_STEPS,
            min=1,
            max=64,
            tooltip="Steps the student is trained for, and sampled with afterwards: 4 is the paper's, 8 is easier, "
            "1 hardest.",
        ),
        io.String.Input(
            "run_name",
            default="distilled",
            tooltip="Name of the run's folder in output/magic141_distill and of the file that comes out. Same name and "
            "settings: the run is resumed.",
        ),
    ]


def how_inputs() -> list:
    """Return how to train."""
    return [
        io.Int.Input(
            "total_steps",
            default=200,
            min=1,
            max=1000000,
            tooltip="Updates of the student by the method. The paper's 4-step model was best at 200, its 8-step one at "
            "100.",
        ),
        io.Int.Input(
            "batch_size",
            default=16,
            min=1,
            max=4096,
            tooltip="Clips an update; the paper's is 16. Fewer is noisier.",
        ),
        io.Int.Input(
            "micro_batch_size",
            default=1,
            min=0,
            max=4096,
            advanced=True,
            tooltip="Clips in memory at once; the batch is made of several. 0: the whole batch. batch_size must be a "
            "multiple of it.",
        ),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-8,
            max=1.0,
            step=1e-8,
            round=False,
            tooltip="Of the student. 1e-4 suits a LoRA; the paper trained all weights of the 13B model at 2e-6.",
        ),
        io.Float.Input(
            "critic_learning_rate",
            display_name="fake_learning_rate",
            default=2e-4,
            min=1e-8,
            max=1.0,
            step=1e-8,
            round=False,
            advanced=True,
            tooltip="DMD2: of the fake model, which must keep up with the student.",
        ),
        io.Int.Input(
            "critic_updates",
            display_name="fake_updates",
            default=5,
            min=0,
            max=100,
            advanced=True,
            tooltip="DMD2: updates of the fake model for one of the student; the paper's is 5.",
        ),
        io.Int.Input("rank", default=32, min=1, max=1024, advanced=True, tooltip="Rank of the LoRA."),
        io.Int.Input(
            "critic_rank",
            display_name="fake_rank",
            default=32,
            min=1,
            max=1024,
            advanced=True,
            tooltip="DMD2: rank of the fake model's LoRA.",
        ),
        io.Float.Input(
            "real_shift",
            default=0.25,
            min=0.0,
            max=1.0,
            step=0.05,
            advanced=True,
            tooltip="DMD2: how much of the fake model's LoRA the real model carries (the paper's weight shift, 0.25).",
        ),
        io.Boolean.Input(
            "normalise",
            display_name="normalize",
            default=True,
            advanced=True,
            tooltip="DMD2: scale the gradient of every clip alike. Not in the paper; steadier.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=1.0,
            max=MOST_CFG,
            step=0.1,
            tooltip="Guidance to learn, so that the student needs none. DMD2: the teacher's, 1 for none. CFG "
            "distillation: the strongest of the range that is learnt.",
        ),
        io.Float.Input(
            "shift",
            default=DEFAULT_SHIFT,
            min=0.01,
            max=100.0,
            step=0.01,
            advanced=True,
            tooltip="Shift of the schedule the student is trained for; sample with the same.",
        ),
        io.Combo.Input(
            "rollout",
            display_name="sampler",
            options=list(SAMPLERS),
            advanced=True,
            tooltip="DMD2: the sampler the student is trained with; sample with the same.",
        ),
    ]


def run_inputs() -> list:
    """Return how the run goes and what it shows."""
    return [
        io.Int.Input(
            "training_seed", default=0, min=0, max=0xFFFFFFFF, tooltip="Start of all that is random."
        ),
        io.Int.Input(
            "sample_every",
            default=20,
            min=0,
            max=100000,
            tooltip="Make sample clips every so many steps: in the preview and as videos in the run's folder. 0: none.",
        ),
        io.Int.Input(
            "sample_clips", default=3, min=1, max=16, advanced=True, tooltip="How many clips, side by side."
        ),
        io.Int.Input(
            "save_every",
            default=25,
            min=0,
            max=100000,
            tooltip="Write a checkpoint every so many steps, against a crash. A cancel always writes one.",
        ),
        io.Float.Input(
            "ema_decay",
            default=0.99,
            min=0.0,
            max=0.99999,
            step=0.00001,
            round=False,
            advanced=True,
            tooltip="The result is the running average of the weights: how much of it stays at each step.",
        ),
        io.Combo.Input(
            "precision",
            options=["auto", "bfloat16", "float32"],
            advanced=True,
            tooltip="What is computed in. auto: bfloat16 on a GPU that is fast at it.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            advanced=True,
            tooltip="Compute activations twice instead of keeping them: much less memory, a third slower.",
        ),
    ]


def start_inputs() -> list:
    """Return how DMD2 starts, before the student and the fake model learn from each other."""
    return [
        io.Int.Input(
            "ode_updates",
            default=100,
            min=0,
            max=100000,
            tooltip="DMD2: updates before total_steps in which the student learns to reach in one of its steps what "
            "the teacher, guided by cfg, reaches in several. Cheap, since no fake model is needed, and most of what a "
            "student gains; 0 for none.",
        ),
        io.Int.Input(
            "ode_substeps",
            default=2,
            min=1,
            max=64,
            advanced=True,
            tooltip="DMD2: how many steps of the teacher one of the student's reaches in ode_updates. few_steps times "
            "this should be a number of steps at which the teacher is good.",
        ),
        io.Int.Input(
            "critic_warmup",
            display_name="fake_warmup",
            default=10,
            min=0,
            max=100000,
            advanced=True,
            tooltip="DMD2: steps between ode_updates and total_steps in which the fake model alone learns what the "
            "student makes, so that the student's first updates are not noise.",
        ),
        io.Model.Input(
            "student",
            optional=True,
            tooltip="Where the training starts, if not at the model itself: the same MODEL with a few-step LoRA on it, "
            "from Load LoRA, or a fine-tune of it. A LoRA that comes out holds both and goes onto the model; its rank "
            "must be at least that of the LoRA it starts from.",
        ),
    ]
