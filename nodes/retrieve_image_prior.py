"""Retrieve Image Prior: the pictures of an index that fit a prompt, or resemble a picture."""

from comfy_api.latest import io, ui

from ..model_patches.bridge.folders import index_directory
from ..model_patches.bridge.retrieval.embedders import (
    ClipVisionEmbedder,
    clip_folders,
    embed_frame,
    load_clip,
)
from ..model_patches.bridge.retrieval.search import find, open_index
from ..model_patches.retrieval.index import index_stamp
from ..model_patches.store.cancel import until_canceled
from ..model_patches.store.names import name_fault


class RetrieveImagePrior(io.ComfyNode):
    """Source: paper equation 2, R(prompt) = argmax over the corpus of the cosine of text and image embeddings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141RetrieveImagePrior",
            display_name="Retrieve Image Prior",
            category="Magic141/retrieve",
            description="Finds the pictures of an index that fit the prompt best, or that resemble a picture. Use the "
            "first as the start image of a video, or several as references.",
            search_aliases=[
                "image search",
                "find image",
                "retrieval",
                "similar images",
                "image prior",
                "rag",
            ],
            inputs=[
                io.String.Input(
                    "index",
                    default="my pictures",
                    tooltip="The name of an index made by Build Image Index. Connect that node's output to build and "
                    "search in one run.",
                ),
                io.Combo.Input(
                    "clip",
                    options=list(clip_folders()),
                    tooltip="The CLIP model folder that the index was built with.",
                ),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="What the picture should show. CLIP reads the first 77 tokens, about 50 words. Ignored "
                    "when a picture is connected.",
                ),
                io.Int.Input(
                    "count",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="How many pictures to return, best first. All are cropped to the size of the first.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.2,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="The lowest similarity (cosine) to accept. If no picture reaches it, the node stops and "
                    "says so. With CLIP models, words and a fitting picture score 0.25 to 0.35, words and an "
                    "unrelated one 0.1 to 0.2, and two similar pictures about 0.8.",
                ),
                io.Float.Input(
                    "diversity",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 returns the best matches even if they look alike; toward 1, the pictures differ more "
                    "from each other. The first is always the best match.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Find pictures similar to this one (the first of a batch) instead of using the prompt.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="A stock CLIP Vision model to embed the picture with, if the index was built with one.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The pictures, best first, at the size of the first."),
                io.Float.Output(
                    "scores", is_output_list=True, tooltip="The cosine similarity of each picture."
                ),
                io.String.Output("paths", is_output_list=True, tooltip="Where each picture comes from."),
                io.String.Output(
                    "report", tooltip="Scores and paths, and which pictures were skipped and why."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, index=None) -> bool | str:
        return (name_fault(index, "an index") if index is not None else None) or True

    @classmethod
    def fingerprint_inputs(cls, index=None, **_) -> int:
        if index is None or name_fault(index, "an index"):
            return 0
        return index_stamp(index_directory(index)) or 0

    @classmethod
    def execute(
        cls, index, clip, prompt, count, threshold, diversity, image=None, clip_vision=None
    ) -> io.NodeOutput:
        if image is None and not prompt.strip():
            raise ValueError("Write a prompt, or connect a picture to find similar ones.")
        by_vision = image is not None and clip_vision is not None
        embedder = ClipVisionEmbedder(clip_vision) if by_vision else load_clip(clip)
        opened = open_index(index, embedder)
        query = embed_frame(embedder, image[0]) if image is not None else embedder.embed_texts([prompt])[0]
        found = find(opened, query, k=count, threshold=threshold, diversity=diversity)
        preview = ui.PreviewImage(found.images[:1], cls=cls)
        for image in until_canceled(found.images[1:]):
            preview.values += ui.PreviewImage(image[None], cls=cls).values
        return io.NodeOutput(found.images, found.scores, found.paths, found.report, ui=preview)
