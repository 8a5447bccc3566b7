"""The demo: make a video with a real ComfyUI server, from the workflow file that artists open.

Run as ``python3 dev.py demo [--out DIR] [--workflow NAME]``.
"""

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import av
from PIL import Image

from ..model_patches.window.prompts import TimedPrompt, parse_prompts
from .client import ComfyClient, ExecutionFailed, PromptRejected, Result
from .graph import workflow_to_prompt
from .server import PACK, temporary_server
from .templates import TITLES, template

DEFAULT = "magic141_image_to_video"
LONG_VIDEOS = ("Magic141SlidingWindowExtend", "Magic141WindowStart")
SHEET_COLUMNS, THUMBNAIL_PX, GAP_PX = 5, 192, 6


class Done(TypedDict):
    """How long a demo took, in seconds, and the files that it wrote."""

    generation_s: float
    files: list[Path]


def run_demo(workflow_path: Path, out: Path) -> Done:
    """Run one workflow on a server of its own and save what it makes.

    Args:
        workflow_path: a UI-format workflow that ends in a Save Video node.
        out: folder for the mp4 and the contact sheet; made if missing.
    Returns:
        generation_s: seconds from queueing to the finished video; files: paths written.
    """
    workflow = json.loads(workflow_path.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    say("Starting ComfyUI ...")
    start = time.monotonic()
    with temporary_server() as server:
        say(f"ComfyUI answers after {time.monotonic() - start:.0f} s; running {workflow_path.name}")
        client = ComfyClient(server.url)
        prompt = workflow_to_prompt(workflow, client.object_info())
        result = client.run(prompt, workflow=workflow, on_event=progress_printer(prompt))
        videos = [(out / file["filename"], client.download(file)) for file in videos_of(result)]
    if not videos:
        raise RuntimeError(f"{workflow_path.name} saved no video.")
    files = [written for path, content in videos for written in save_video(content, path)]
    return Done(generation_s=result.seconds, files=files)


def cut_long_videos(prompt: dict[str, dict], longest_s: float) -> None:
    """Shorten the long videos of an API prompt, and drop lines of prompts whose time begins after the new end."""
    for node in prompt.values():
        values = node["inputs"]
        if node["class_type"] not in LONG_VIDEOS:
            continue
        values["length"] = min(values["length"], longest_s)
        if isinstance(values["prompts"], str):
            lines = values["prompts"].splitlines()
            values["prompts"] = "\n".join(line for line in lines if start_of(line) < longest_s)


def start_of(line: str) -> float:
    """Return the second at which the time of a line of prompts begins; 0 for a line without a time."""
    return max((item.start_s for item in parse_prompts(line) if isinstance(item, TimedPrompt)), default=0.0)


def videos_of(result: Result) -> list[dict]:
    """Return the videos that Save Video wrote, without those of single windows in the folders of runs."""
    videos = [file for file in result.files() if file["filename"].endswith(".mp4")]
    return [file for file in videos if not file["subfolder"].startswith("magic141_runs")]


def save_video(content: bytes, path: Path) -> list[Path]:
    """Write the video and a contact sheet of all its frames beside it."""
    path.write_bytes(content)
    sheet = path.with_name(f"{path.stem.rstrip('_')}_contact_sheet.png")
    contact_sheet(read_frames(content)).save(sheet)
    return [path, sheet]


def read_frames(content: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(content), "r") as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def contact_sheet(frames: list[Image.Image]) -> Image.Image:
    """Lay the frames out in rows, in order, each at the same size."""
    scale = THUMBNAIL_PX / max(frames[0].size)
    width, height = (round(side * scale) for side in frames[0].size)
    rows = -(-len(frames) // SHEET_COLUMNS)
    step = width + GAP_PX, height + GAP_PX
    sheet = Image.new("RGB", (SHEET_COLUMNS * step[0] + GAP_PX, rows * step[1] + GAP_PX), "white")
    for index, frame in enumerate(frames):
        row, column = divmod(index, SHEET_COLUMNS)
        sheet.paste(
            frame.resize((width, height), Image.Resampling.NEAREST),
            (GAP_PX + column * step[0], GAP_PX + row * step[1]),
        )
    return sheet


def progress_printer(prompt: dict) -> Callable[[str, dict], None]:
    """Return an event listener that prints a line when a node starts and when it makes a step."""

    def listen(kind: str, data: dict) -> None:
        if kind == "executing" and data.get("node") in prompt:
            say(f"  {prompt[data['node']]['class_type']}")
        elif kind == "progress":
            say(f"    {data['value']} / {data['max']}")

    return listen


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py demo", description="Make a video with a real ComfyUI.")
    parser.add_argument("--out", type=Path, default=PACK / "demo-output", help="folder for the results")
    parser.add_argument(
        "--workflow", default=DEFAULT, choices=TITLES, help=f"which of workflows/ (default {DEFAULT})"
    )
    options = parser.parse_args()
    try:
        done = run_demo(template(options.workflow), options.out.resolve())
    except (PromptRejected, ExecutionFailed) as error:
        print(f"ComfyUI refused or failed:\n{error}", file=sys.stderr)
        return 1
    say(f"Generated in {done['generation_s']:.1f} s:")
    for path in done["files"]:
        say(f"  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
