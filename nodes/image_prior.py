"""Image Prior: one picture to start from, wherever it comes from; only the source that is used is run."""

from typing import Any

from comfy_api.latest import io

AUTOMATIC = "first connected"
SOURCES = {"text-to-image": "generated", "retrieved": "retrieved", "uploaded": "uploaded"}
NOT_WIRED = object()


class ImagePrior(io.ComfyNode):
    """Source: paper equation 3: the image prior is a generated picture, a retrieved one, or a given one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Magic141ImagePrior",
            display_name="Image Prior",
            category="Magic141/retrieve",
            description="Chooses the start picture of a video: a generated one if a text-to-image model is connected, "
            "otherwise a retrieved one, otherwise an uploaded one. Only the branch that is used runs, so one workflow "
            "serves all three.",
            search_aliases=[
                "start image",
                "first frame",
                "image switch",
                "text to image to video",
                "lazy switch",
            ],
            inputs=[
                io.Combo.Input(
                    "source",
                    options=[AUTOMATIC, *SOURCES],
                    default=AUTOMATIC,
                    tooltip="Which picture to use. 'first connected' prefers text-to-image, then retrieved, then "
                    "uploaded; muted and bypassed branches count as not connected.",
                ),
                io.Image.Input(
                    "generated",
                    optional=True,
                    lazy=True,
                    tooltip="From a text-to-image model (VAE Decode).",
                ),
                io.Image.Input("retrieved", optional=True, lazy=True, tooltip="From Retrieve Image Prior."),
                io.Image.Input("uploaded", optional=True, lazy=True, tooltip="From Load Image."),
            ],
            outputs=[
                io.Image.Output("image", tooltip="The chosen picture or pictures, unchanged."),
                io.String.Output("used", tooltip="Which source was used."),
            ],
        )

    @classmethod
    def validate_inputs(cls, source, generated=NOT_WIRED, retrieved=NOT_WIRED, uploaded=NOT_WIRED) -> bool:
        if source is not None:  # else linked: known only when it runs
            choose(source, generated=generated, retrieved=retrieved, uploaded=uploaded)
        return True

    @classmethod
    def check_lazy_status(
        cls, source, generated=NOT_WIRED, retrieved=NOT_WIRED, uploaded=NOT_WIRED
    ) -> list[str]:
        pictures = {"generated": generated, "retrieved": retrieved, "uploaded": uploaded}
        name = choose(source, **pictures)
        return [name] if pictures[name] is None else []

    @classmethod
    def execute(cls, source, generated=NOT_WIRED, retrieved=NOT_WIRED, uploaded=NOT_WIRED) -> io.NodeOutput:
        pictures = {"generated": generated, "retrieved": retrieved, "uploaded": uploaded}
        name = choose(source, **pictures)
        return io.NodeOutput(
            pictures[name], next(label for label, input_ in SOURCES.items() if input_ == name)
        )


def choose(source: str, **pictures: Any) -> str:
    """Return the name of the input to use; an input that is not connected is NOT_WIRED.

    Raises:
        ValueError: there is no such source, or what was asked for is not connected.
    """
    wired = [name for name, picture in pictures.items() if picture is not NOT_WIRED]
    if source == AUTOMATIC:
        if not wired:
            raise ValueError(
                "Image Prior has no picture: connect 'generated' (a text-to-image model), 'retrieved' (Retrieve Image "
                "Prior) or 'uploaded' (Load Image)."
            )
        return wired[0]
    if source not in SOURCES:
        raise ValueError(
            f"'{source}' is not a source of Image Prior. Use one of: {', '.join([AUTOMATIC, *SOURCES])}."
        )
    if SOURCES[source] not in wired:
        raise ValueError(
            f"Image Prior is set to '{source}', but nothing is connected to '{SOURCES[source]}'. Connect it, or set "
            f"'source' to '{AUTOMATIC}'."
        )
    return SOURCES[source]
