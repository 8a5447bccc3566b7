"""Build Training Set: a folder of captioned videos, encoded once for training."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.encoders.socket import EncodersSocket
from ..model_patches.bridge.folders import resolve_folder
from ..model_patches.bridge.graph_identity import graph_identity, running_graph
from ..model_patches.bridge.training.dataset import (
    SetModels,
    SetRequest,
    build_training_set,
    listing,
    set_directory,
)
from ..model_patches.sizes import BUCKETS, check_clip_size
from ..model_patches.store.names import name_fault
from .video_inputs import fps_input, size_inputs

FREE_SIZE = "width x height"
BUCKET_CHOICES = {f"{family} bucket nearest to most videos": family for family in BUCKETS}


class BuildTrainingSet(io.ComfyNode):
    """Encode every captioned video of a folder; later runs encode only what is new or changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141BuildTrainingSet",
            display_name="Build Training Set",
            category="Magic141/train",
            description="Prepares a folder of captioned videos for training: cuts them into windows of one size and "
            "stores latents, text states and the VLM's image states on disk. Running it again encodes only what is "
            "new or changed; an interrupted run continues where it stopped.",
            search_aliases=[
                "magic141",
                "dataset",
                "training data",
                "captions",
                "fine-tune",
                "train lora",
                "cache latents",
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=cls._inputs(),
            outputs=[
                io.String.Output(
                    "training_set", tooltip="Name of the set: connect it to Distill to Few Steps."
                ),
                io.String.Output(
                    "report", tooltip="What the set holds, what was cropped, what was skipped and why."
                ),
            ],
        )

    @classmethod
    def _inputs(cls) -> list:
        return [
            io.String.Input(
                "folder",
                default="input/training",
                tooltip="The folder with the videos, subfolders included: inside ComfyUI's input, output or models "
                "folder, or one registered in extra_model_paths.yaml. Captions: a text file of the same name beside "
                'each video (cat.mp4, cat.txt), or one .jsonl of {"video": "cat.mp4", "caption": "a cat jumps"} '
                "lines.",
            ),
            io.String.Input(
                "set_name",
                default="my videos",
                tooltip="Name of the set. It is stored in models/magic141_training_sets.",
            ),
            EncodersSocket.Input(
                "encoders",
                tooltip="The encoders that the model will be used with, from Load Magic141 Encoders.",
            ),
            io.Vae.Input(
                "vae", tooltip="The VAE that the model will be used with: HunyuanVideo's or the embedded one."
            ),
            io.Combo.Input(
                "size",
                options=[FREE_SIZE, *BUCKET_CHOICES],
                default=FREE_SIZE,
                tooltip="All windows of a set have one size: width and height as given, or the training size whose "
                "shape is nearest to most of the videos. Videos of other shapes are scaled to cover it and cropped "
                "at the center.",
            ),
            *size_inputs(960, 544, "{0} in pixels, a multiple of 16."),
            io.Int.Input(
                "num_frames",
                default=81,
                min=5,
                max=2049,
                step=4,
                tooltip="Frames per window, 4n + 1: as many as the model will make at once. Shorter videos are "
                "skipped, longer ones give several windows. Embedded model: 13.",
            ),
            fps_input(
                24.0,
                "Frames per second of the windows. Videos at another rate are converted to this one, so motion keeps "
                "its speed. The models were trained at 24.",
                advanced=True,
            ),
            io.Int.Input(
                "max_windows",
                default=0,
                min=0,
                max=100000,
                advanced=True,
                tooltip="Most windows to take from one video, from its beginning. 0: all.",
            ),
            io.Boolean.Input(
                "image_states",
                default=True,
                advanced=True,
                tooltip="Show the VLM the last known frame of each window, as VLM Image Encode and Sliding Window "
                "Extend do in use. Turn it off for text-to-video models and for encoders without vision.",
            ),
            io.Boolean.Input(
                "replace",
                default=False,
                advanced=True,
                tooltip="Replace a set of this name that was made from another folder or with other settings.",
            ),
        ]

    @classmethod
    def validate_inputs(
        cls, folder=None, set_name=None, width=None, height=None, num_frames=None
    ) -> bool | str:
        if folder is not None:
            resolve_folder(folder)
        if None not in (width, height, num_frames):
            check_clip_size(width, height, num_frames)
        return (name_fault(set_name, "a training set") if set_name is not None else None) or True

    @classmethod
    def fingerprint_inputs(cls, folder=None, set_name=None, **_) -> str | float:
        if folder is None or set_name is None:  # linked: known only when it runs
            return float("nan")
        return f"{listing(folder)} {(set_directory(set_name) / 'set.json').is_file()}"

    @classmethod
    def execute(
        cls, folder, set_name, encoders, vae, size, image_states, replace, **widgets
    ) -> io.NodeOutput:
        request = SetRequest(**widgets, with_image_states=image_states, bucket=BUCKET_CHOICES.get(size))
        graph = running_graph(cls.hidden.dynprompt)
        identities = [graph_identity(graph, cls.hidden.unique_id, [name]) for name in ("encoders", "vae")]
        models = SetModels(encoders, vae, *identities)
        _, report = build_training_set(set_name, folder, models, request, replace_other=replace)
        report = "\n".join([report, *models.notes()])
        return io.NodeOutput(set_name, report, ui=ui.PreviewText(report))
