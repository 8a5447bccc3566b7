"""The end of a long video that a graph makes: its windows joined, finished or not."""

import contextlib
import math
from pathlib import Path

from av.error import FFmpegError

from ...store.cancel import time_limit
from ...window.store import GRACE_S
from ...window.tail import from_uint8
from ..progress import send_last_text
from .graph_run import GraphRun, latent_before
from .graph_sound import joined_sound
from .progress import unfinished_text
from .run import Outcome


def finish_run(run: GraphRun) -> Outcome:
    """Join the windows into one video and report."""
    tail = run.run.tail
    assert run.window is None
    assert tail is not None
    path = join_windows(run, finished=True)
    prompts = run.settings.start.prompts
    settings = run.shared | {"source_frames": run.material.lead_in_frames, "prompts": prompts}
    report = run.run.report(path, settings=settings, notes=run.notes)
    return Outcome(path, from_uint8(tail.frames[-1:]), latent_before(run), report, run.cards.since())


def join_windows(run: GraphRun, *, finished: bool) -> Path:
    """Join the finished windows with their sound, and return the video's path."""
    with run.run.store as store:
        windows = run.run.windows[: run.run.num_done]
        sound = joined_sound(store, windows, run.material, fps=run.settings.start.fps)
        if sound is not None:
            store.use_sound_of(sound)
        path = store.join(finished=finished)
        if sound is not None:
            with contextlib.suppress(OSError):  # held by a virus scanner: the next run removes it
                sound.unlink()
    return path


def leave_unfinished(run: GraphRun, canceled: bool) -> str:
    """Join the finished windows of a run that ends early, after a cancel only if that is quick; say where they are."""
    done, total = run.run.num_done, len(run.run.windows)
    try:
        with time_limit(GRACE_S if canceled else math.inf):
            path = join_windows(run, finished=False) if done else None
        text = unfinished_text(done, total, path)
    except (OSError, ValueError, FFmpegError) as error:
        text = f"Window {done + 1} of {total} was not finished. The windows before are kept ({error})."
    send_last_text(text, run.node_id)
    return text
