"""The inputs of Distill to Few Steps, by subject."""

from comfy_api.latest import io

from ..model_patches.sampler import DEFAULT_SHIFT, DEFAULT_STEPS, SAMPLERS

METHODS = {
    "few steps (DMD2)": "dmd2",
    "guidance in one pass (CFG distillation)": "cfg",
    "fine-tune (flow matching)": "flow",
}
TRAIN = {"LoRA": "lora", "full": "full"}


def what_inputs() -> list:
    """Return what is trained, on what, and what is written."""
    return [
        io.Model.Input(
            "model",
            tooltip="The model to learn from and to train: a MODEL of the HunyuanVideo layout with plain weights "
            "(bf16, fp16 or fp32). LoRAs on it count as part of it.",
        ),
        io.String.Input(
            "training_set", default="my videos", tooltip="Name of a training set, from Build Training Set."
        ),
        io.Vae.Input("vae", tooltip="Decodes the sample clips. Use the VAE that the set was built with."),
        io.Combo.Input(
            "method",
            options=list(METHODS),
            tooltip="DMD2 makes a few-step model. CFG distillation makes guidance strength an input of the model "
            "(needs train: full). Flow matching is plain training: a text-to-video model becomes an image-to-video "
            "one (train: full), or a model learns your clips.",
        ),
        io.Combo.Input(
            "train",
            options=list(TRAIN),
            tooltip="LoRA: small, opens in the stock LoraLoaderModelOnly, fits this model only. full: a whole "
            "checkpoint, for small models; training it needs more than ten times the memory of the bf16 weights.",
        ),
        io.Int.Input(
            "few_steps",
            default=DEFAULT_STEPS,
            min=1,
            max=64,
            tooltip="Steps that the student is trained for and sampled with afterwards. The paper uses 4; 8 is "
            "easier to learn, 1 is hardest.",
        ),
        io.String.Input(
            "run_name",
            default="distilled",
            tooltip="Name of the run's folder in output/magic141_distill and of the file that is written. With the "
            "same name and settings a stopped run continues.",
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
            tooltip="How often the chosen method updates the student. The paper's 4-step model was best at 200, its "
            "8-step model at 100.",
        ),
        io.Int.Input(
            "batch_size",
            default=16,
            min=1,
            max=4096,
            tooltip="Clips per update; the paper uses 16. With fewer, updates are noisier.",
        ),
        io.Int.Input(
            "micro_batch_size",
            default=1,
            min=0,
            max=4096,
            advanced=True,
            tooltip="Clips in memory at once; a batch is processed in parts of this size. 0: the whole batch. "
            "batch_size must be a multiple of it.",
        ),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-8,
            max=1.0,
            step=1e-8,
            round=False,
            tooltip="Learning rate of the student. 1e-4 suits a LoRA; the paper trained all weights of the 13B "
            "model at 2e-6.",
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
            tooltip="DMD2: learning rate of the fake model, which must keep up with the student.",
        ),
        io.Int.Input(
            "critic_updates",
            display_name="fake_updates",
            default=5,
            min=0,
            max=100,
            advanced=True,
            tooltip="DMD2: updates of the fake model for each update of the student; the paper uses 5.",
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
            tooltip="DMD2: how much of the fake model's LoRA is added to the real model (the paper's weight shift "
            "is 0.25).",
        ),
        io.Boolean.Input(
            "normalise",
            display_name="normalize",
            default=True,
            advanced=True,
            tooltip="DMD2: give the gradients of all clips the same scale. The paper does not; training is steadier "
            "with it.",
        ),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=1.0,
            max=30.0,
            step=0.1,
            tooltip="Guidance that the student learns, so that it needs none itself. DMD2: how strongly the teacher "
            "is guided; 1 for none. CFG distillation: the upper end of the range that is learned.",
        ),
        io.Float.Input(
            "shift",
            default=DEFAULT_SHIFT,
            min=0.01,
            max=100.0,
            step=0.01,
            advanced=True,
            tooltip="Shift of the schedule that the student is trained for; sample with the same value.",
        ),
        io.Combo.Input(
            "rollout",
            display_name="sampler",
            options=list(SAMPLERS),
            advanced=True,
            tooltip="DMD2: the sampler that the student is trained with; sample with the same one.",
        ),
    ]


def run_inputs() -> list:
    """Return seed, sample clips, checkpoints and precision."""
    return [
        io.Int.Input(
            "training_seed",
            advanced=True,
            default=0,
            min=0,
            max=0xFFFFFFFF,
            tooltip="Seed of all random numbers in the training.",
        ),
        io.Int.Input(
            "sample_every",
            advanced=True,
            default=20,
            min=0,
            max=100000,
            tooltip="Steps between sample clips, which are shown in the preview and saved as videos in the run's "
            "folder. 0: none.",
        ),
        io.Int.Input(
            "sample_clips",
            default=3,
            min=1,
            max=16,
            advanced=True,
            tooltip="How many sample clips to make; they are shown side by side.",
        ),
        io.Int.Input(
            "save_every",
            advanced=True,
            default=25,
            min=0,
            max=100000,
            tooltip="Steps between checkpoints, from which a crashed run continues. Canceling always writes one. 0: "
            "only at the end.",
        ),
        io.Float.Input(
            "ema_decay",
            default=0.99,
            min=0.0,
            max=0.99999,
            step=0.00001,
            round=False,
            advanced=True,
            tooltip="The result is a running average of the weights: how much of the average is kept at each step.",
        ),
        io.Combo.Input(
            "precision",
            options=["auto", "bfloat16", "float32"],
            advanced=True,
            tooltip="Precision of the computation. auto: bfloat16 on a GPU that is fast at it.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            advanced=True,
            tooltip="Compute activations twice instead of storing them: far less memory, a third slower.",
        ),
    ]


def start_inputs() -> list:
    """Return how DMD2 begins, and where the student starts."""
    return [
        io.Int.Input(
            "ode_updates",
            default=100,
            min=0,
            max=100000,
            tooltip="DMD2: first updates, on top of total_steps, in which one step of the student learns to reach "
            "what the teacher, guided by cfg, reaches in several. They need no fake model, so they are cheap, and "
            "they bring most of the gain. 0: none.",
        ),
        io.Int.Input(
            "ode_substeps",
            default=2,
            min=1,
            max=64,
            advanced=True,
            tooltip="DMD2: how many steps of the teacher one step of the student covers in ode_updates. few_steps "
            "times this number should be enough steps for the teacher to make good clips.",
        ),
        io.Int.Input(
            "critic_warmup",
            display_name="fake_warmup",
            default=10,
            min=0,
            max=100000,
            advanced=True,
            tooltip="DMD2: steps after ode_updates, on top of total_steps, in which only the fake model learns, so "
            "that the student's first updates are not noise.",
        ),
        io.Model.Input(
            "student",
            optional=True,
            tooltip="Where the student starts, if not at the model itself: the same MODEL with a few-step LoRA on "
            "it, from Load LoRA, or a fine-tune of it. The LoRA that is written contains that start: apply it to "
            "the model. Its rank must be at least that of the LoRA it starts from.",
        ),
    ]
