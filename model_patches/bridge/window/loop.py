"""The outer loop of a long video: window after window, each on disk before the next starts."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import comfy.model_management
import torch
from torch import Tensor

from ...window.anchor import LatentStatistics
from ...window.journal import RunDirectoryBroken, chain_keys
from ...window.measure import mean_lab, measure_window, seam_badness
from ...window.palette import Palette
from ...window.plan import Window
from ...window.store import WindowStore
from .make import Models, WindowSettings, make_window
from .progress import WindowProgress
from .stream import Made, Reference, Stream, advance, from_uint8, make_reference


@dataclass(frozen=True)
class Start:
    """What the video begins with.

    image: (1, H, W, 3) in [0, 1], the first frame of all. stream, reference: of the video or latent to continue;
    None when it starts from the image.
    """

    image: Tensor
    stream: Stream | None = None
    reference: Reference | None = None


def extend(
    models: Models,
    settings: WindowSettings,
    windows: list[Window],
    start: Start,
    store: WindowStore,
    *,
    keys: list[str],
    seed: int,
    end_image: Tensor | None = None,
    progress: Callable[[int], WindowProgress],
) -> Stream:
    """Make all windows that are not finished yet.

    Args:
        store: restored; the windows it took over are not made again.
        keys: of ``window_keys``.
        progress: called once with the number of windows already finished.

    Returns:
        The stream after the last window.
    """
    stream, reference = restore_stream(store, start)
    shown = progress(len(store.entries))
    for window in windows[len(store.entries) :]:
        comfy.model_management.throw_exception_if_processing_interrupted()
        began = time.monotonic()
        last = end_image if window.index == len(windows) - 1 else None
        made, measures, attempts = best_of_attempts(
            models,
            settings,
            window,
            start,
            stream,
            reference,
            last,
            held=motion_to_hold(window.prompt, [entry.facts for entry in store.entries]),
            seed=seed,
            callback=shown.on_step,
        )
        first_of_all = reference is None
        reference = reference or make_reference(made.latent, made.frames)
        stream = advance(models.vae, stream, made, settings.overlap_latent)
        store.save(
            window.index,
            keys[window.index],
            made.frames,
            first_number=window.start_frame + 1,
            tensors=stream_tensors(stream) | (reference_tensors(reference) if first_of_all else {}),
            facts=window_facts(window, made, measures, attempts, time.monotonic() - began),
        )
        shown.window_done()
    assert stream is not None
    return stream


def best_of_attempts(
    models,
    settings: WindowSettings,
    window: Window,
    start: Start,
    stream,
    reference,
    end_image,
    *,
    held,
    seed,
    callback,
) -> tuple[Made, dict, int]:
    """Make a window, again with other seeds while it exceeds a limit; return the best and its measures."""
    best: tuple[float, Made, dict] | None = None
    for attempt in range(1 + settings.reroll_limit):
        made = make_window(
            models,
            settings,
            window,
            start_image=start.image,
            stream=stream,
            reference=reference,
            end_image=end_image,
            attempt=attempt,
            seed=seed,
            callback=callback,
        )
        measures = measure(made, stream, reference, held)
        over = times_over_limit(measures, settings)
        if best is None or over < best[0]:
            best = (over, made, measures)
        if over <= 1:
            break
    assert best is not None
    return best[1], best[2], attempt + 1


def times_over_limit(measures: Mapping[str, float], settings: WindowSettings) -> float:
    """Return how far a window exceeds the run's limits on seam and turn: up to 1 is good, without limits all are."""
    over = [0.0]
    if limit := settings.reroll_threshold:
        over.append(seam_badness(measures.get("seam_motion", 1.0)) / max(limit, 1 / limit))
    if settings.turn_limit:
        over.append(measures.get("turned_deg", 0.0) / settings.turn_limit)
    return max(over)


def motion_to_hold(prompt: str, finished: Sequence[dict]) -> tuple[float, float] | None:
    """Return the motion of the window with which this prompt began, None for a window that begins one itself.

    Args:
        finished: the facts of all windows before (see ``window_facts``), the same live and resumed.
    """
    same = list(itertools.takewhile(lambda facts: facts["prompt"] == prompt, reversed(finished)))
    measures = same[-1]["measures"] if same else {}
    return (measures["motion_right"], measures["motion_down"]) if "motion_right" in measures else None


def measure(
    made: Made,
    stream: Stream | None,
    reference: Reference | None,
    held: tuple[float, float] | None = None,
) -> dict[str, float]:
    """Measure a window against the first one, the frames before its seam and the motion it should go on with."""
    lab = reference.lab if reference is not None else mean_lab(made.frames)
    before = None if stream is None else from_uint8(stream.frames)
    return measure_window(made.frames, reference_lab=lab, before=before, held=held)


def window_keys(windows: list[Window], shared: dict, *, end_image_hash: str = "") -> list[str]:
    """Return the journal's key of every window; ``shared`` holds what would change every frame."""
    specials = [asdict(window) for window in windows]
    if end_image_hash:
        specials[-1]["end_image"] = end_image_hash
    return chain_keys(shared, specials)


def window_facts(window: Window, made: Made, measures: dict, attempts: int, seconds: float) -> dict:
    """Return what the report says of a window."""
    return {
        "index": window.index,
        "prompt": window.prompt,
        "seed": made.seed,
        "attempts": attempts,
        "start_frame": window.start_frame,
        "num_new_frames": window.num_new_frames,
        "seconds": round(seconds, 3),
        "measures": {name: round(value, 5) for name, value in measures.items()},
    }


def stream_tensors(stream: Stream) -> dict[str, Tensor]:
    """Write a stream as the journal's tensors."""
    return {
        "stream.latent": stream.latent,
        "stream.frames": stream.frames,
        "stream.num_before": torch.tensor(stream.num_before),
    }


def reference_tensors(reference: Reference) -> dict[str, Tensor]:
    """Write a reference as the journal's tensors."""
    return {
        "reference.mean": reference.statistics.mean,
        "reference.std": reference.statistics.std,
        "reference.frames": reference.frames,
        "reference.lab": reference.lab,
        **{f"reference.palette.{name}": value for name, value in vars(reference.palette).items()},
    }


def restore_stream(store: WindowStore, start: Start) -> tuple[Stream | None, Reference | None]:
    """Return stream and reference after the windows taken over, or those the run starts with."""
    if not store.entries:
        return start.stream, start.reference
    try:
        stream = read_stream(store.last_tensors())
        return stream, start.reference or read_reference(store.first_tensors())
    except (KeyError, RuntimeError) as error:  # RuntimeError: a number that is none
        raise RunDirectoryBroken(
            f"The tensors in {store.folder / 'windows'} are not those of a window ({error}). Delete the folder or "
            "give this run another name."
        ) from error


def read_stream(tensors: Mapping[str, Tensor]) -> Stream:
    """Return the stream that ``stream_tensors`` wrote."""
    return Stream(tensors["stream.latent"], tensors["stream.frames"], int(tensors["stream.num_before"]))


def read_reference(tensors: Mapping[str, Tensor]) -> Reference:
    """Return the reference that ``reference_tensors`` wrote."""
    statistics = LatentStatistics(tensors["reference.mean"], tensors["reference.std"])
    palette = Palette(*(tensors[f"reference.palette.{field.name}"] for field in fields(Palette)))
    return Reference(statistics, tensors["reference.frames"], tensors["reference.lab"], palette)
