"""Build Image Index: a folder of pictures becomes searchable by words."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.folders import index_directory, resolve_folder
from ..model_patches.bridge.retrieval.embedders import ClipVisionEmbedder, clip_folders, load_clip
from ..model_patches.bridge.retrieval.search import update_index
from ..model_patches.retrieval.index import index_stamp
from ..model_patches.store.names import name_fault
from ..model_patches.store.walk import listing_digest


class BuildImageIndex(io.ComfyNode):
    """Embed every picture of a folder; later runs embed only what is new or changed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141BuildImageIndex",
            display_name="Build Image Index",
            category="Magic141/retrieve",
            description="Makes a folder of pictures searchable by words or by a picture. Running it again embeds only "
            "new and changed pictures; an interrupted run continues where it stopped.",
            search_aliases=[
                "image search",
                "retrieval",
                "clip index",
                "embed folder",
                "image database",
                "rag",
            ],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "folder",
                    default="input",
                    tooltip="The folder with the pictures; its subfolders are included. It must lie inside ComfyUI's "
                    "input, output or models folder (for example input/pets), or be registered in "
                    "extra_model_paths.yaml: then give its name there or its full path.",
                ),
                io.String.Input(
                    "index_name",
                    default="my pictures",
                    tooltip="A name for the index, which is kept in models/magic141_image_index.",
                ),
                io.Combo.Input(
                    "clip",
                    options=list(clip_folders()),
                    tooltip="A CLIP model folder (Hugging Face layout) in models/text_encoders. Choose the same one "
                    "in Retrieve Image Prior.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=32,
                    min=1,
                    max=1024,
                    advanced=True,
                    tooltip="How many pictures are embedded at once. Lower it if you run out of memory; a higher "
                    "number is faster on a large GPU.",
                ),
                io.Boolean.Input(
                    "rebuild",
                    default=False,
                    advanced=True,
                    tooltip="Delete the index and embed everything again: to use its name for another folder or "
                    "model, or to replace a damaged index.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="A stock CLIP Vision model to use instead of 'clip'. To search by words later, you need "
                    "the CLIP folder that this vision model belongs to.",
                ),
            ],
            outputs=[
                io.String.Output("index", tooltip="The name of the index, for Retrieve Image Prior."),
                io.String.Output("report", tooltip="What was added, changed, removed and skipped, and why."),
            ],
        )

    @classmethod
    def validate_inputs(cls, folder=None, index_name=None) -> bool | str:
        if folder is not None:
            resolve_folder(folder)
        return (name_fault(index_name, "an index") if index_name is not None else None) or True

    @classmethod
    def fingerprint_inputs(cls, folder=None, index_name=None, **_) -> str | float:
        if folder is None or index_name is None:  # linked: known only when it runs
            return float("nan")
        stamp = index_stamp(index_directory(index_name))
        if stamp is None:  # never equal to an earlier run's, whose index may have been deleted since
            return float("nan")
        return f"{listing_digest(resolve_folder(folder))} {stamp}"

    @classmethod
    def execute(cls, folder, index_name, clip, batch_size, rebuild, clip_vision=None) -> io.NodeOutput:
        embedder = load_clip(clip) if clip_vision is None else ClipVisionEmbedder(clip_vision)
        _, report = update_index(index_name, folder, embedder, batch_size=batch_size, rebuild=rebuild)
        text = report.text()
        return io.NodeOutput(index_name, text, ui=ui.PreviewText(text))
