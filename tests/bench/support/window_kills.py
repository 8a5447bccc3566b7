"""Kill a long run at random moments and see whether it ends with the same frames."""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

KILLS = 3


def measure_resume(*, seconds: float) -> dict[str, float]:
    """Kill a run at random moments, finish it, and compare its frames with an undisturbed run's."""
    from magic141.model_patches.store.video_source import read_frames

    chance = random.Random(141)
    with tempfile.TemporaryDirectory() as folder:
        hits = [killed(folder, seconds, chance.randint(1, 2), chance.random() / 4) for _ in range(KILLS)]
        resumed, whole = (finished(folder, seconds, name) for name in ("killed", "whole"))
        frames, wanted = (torch.stack(list(read_frames(Path(run["video"])))) for run in (resumed, whole))
    same = all(hits) and frames.shape == wanted.shape and torch.equal(frames, wanted)
    return {
        "resume_identical_frames": float(same),
        "resume_kills": float(sum(hits)),
        "resume_windows_taken_over": float(resumed["taken_over"]),
    }


def killed(folder: str, seconds: float, num_windows: int, wait_s: float) -> bool:
    """Kill a run (SIGKILL) some windows further and a moment later; tell whether it still ran."""
    process = start(folder, seconds, "killed")
    wanted = finished_windows(Path(folder)) + num_windows
    while finished_windows(Path(folder)) < wanted and process.poll() is None:
        time.sleep(0.02)
    time.sleep(wait_s)
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


def finished_windows(folder: Path) -> int:
    return len(list(folder.rglob("windows/*.json")))


def start(folder: str, seconds: float, name: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "magic141.tests.bench.support.window_kills", folder, str(seconds), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finished(folder: str, seconds: float, name: str) -> dict:
    """Run to the end in a process of its own; return what it printed."""
    process = start(folder, seconds, name)
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run {name!r} ended with status {process.returncode}")
    return json.loads(out.splitlines()[-1])


def child(folder: str, seconds: str, name: str) -> None:
    """Make one clip; this is what gets killed."""
    from magic141.tools.host import use_comfyui

    use_comfyui()
    from magic141.tests.bench.support.window_costs import shapes_run
    from magic141.tests.support.shapes_models import shapes_models

    with torch.inference_mode():
        outcome = shapes_run(shapes_models()[0], Path(folder), seconds=float(seconds), name=name)
    kept = [line for line in outcome.report["summary"] if "finished by an earlier run" in line]
    taken_over = int(kept[0].split()[0]) if kept else 0
    print(json.dumps({"video": str(outcome.video), "taken_over": taken_over}), flush=True)


if __name__ == "__main__":
    child(*sys.argv[1:])
