"""Thumbnails of the workflows: ``workflows/<name>.jpg``, frames of the video that each workflow makes.

Run as ``python3 dev.py remake thumbnails [--seconds S] [NAME ...]`` whenever the embedded model has changed.
ComfyUI's template browser shows the picture of a workflow's name beside it; its card is a square.
"""

import argparse
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .client import ComfyClient
from .demo import cut_long_videos, read_frames, say, videos_of
from .graph import workflow_to_prompt
from .server import PACK, temporary_server

WORKFLOWS = PACK / "workflows"
SIDE_PX, GAP_PX, BAND_PX = 480, 6, 34
LONG_FRAMES = 50
"""A video of more frames is shown in nine of them, a shorter one in four."""
WIDE = 1.5
"""Frames wider than this (two clips side by side) stand below each other."""
STAND_INS = {
    "magic141_after_any_t2i": "magic141_prompt_to_image_to_video",
    "magic141_retrieval_guides_t2i": "magic141_retrieval_to_video",
    "magic141_wan22_image_to_video": "magic141_image_to_video",
    "magic141_wan22_one_minute": "magic141_any_graph_minute",
    "magic141_continue_any_video": "magic141_continue_video",
    "magic141_hunyuan15_image_to_video": "magic141_image_to_video",
    "magic141_hunyuan15_one_minute": "magic141_any_graph_minute",
    "magic141_hunyuan_image_to_video": "magic141_image_to_video",
    "magic141_hunyuan_one_minute": "magic141_one_minute",
    "magic141_ltx23_one_minute_with_sound": "magic141_any_graph_minute",
}
"""Workflows whose weights do not ship with the pack, and the one that does the same with the embedded model."""
NOTE = "shown with the embedded model"


def thumbnail(frames: list[Image.Image], note: str = "") -> Image.Image:
    """Lay frames of a video out in a square, in reading order from the first to the last.

    Args:
        frames: all frames of the video.
        note: a line of text below the frames.
    """
    width, height = frames[0].size
    columns = 3 if len(frames) > LONG_FRAMES else 2
    rows, columns = (columns, 1) if width > WIDE * height else (columns, columns)
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX), "#171718")
    area = SIDE_PX - GAP_PX, SIDE_PX - GAP_PX - (BAND_PX if note else 0)
    scale = min((area[0] / columns - GAP_PX) / width, (area[1] / rows - GAP_PX) / height)
    size = round(width * scale), round(height * scale)
    left = (SIDE_PX - columns * (size[0] + GAP_PX) + GAP_PX) // 2
    top = (SIDE_PX - (BAND_PX if note else 0) - rows * (size[1] + GAP_PX) + GAP_PX) // 2
    for place, frame in enumerate(evenly(frames, rows * columns)):
        row, column = divmod(place, columns)
        where = left + column * (size[0] + GAP_PX), top + row * (size[1] + GAP_PX)
        sheet.paste(frame.resize(size, Image.Resampling.LANCZOS), where)
    if note:
        font = ImageFont.load_default(17)
        middle = SIDE_PX / 2, SIDE_PX - BAND_PX / 2 - 2
        ImageDraw.Draw(sheet).text(middle, note, font=font, fill="#cccccc", anchor="mm")
    return sheet


def evenly(frames: list, count: int) -> list:
    """Return ``count`` entries spread over the list, the first and the last among them."""
    return [frames[round(index * (len(frames) - 1) / max(1, count - 1))] for index in range(count)]


def video_frames(client: ComfyClient, path: Path, longest_s: float | None) -> list[Image.Image]:
    """Run a workflow and return the frames it saved; long videos are cut to ``longest_s``, if given."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    prompt = workflow_to_prompt(workflow, client.object_info())
    if longest_s:
        cut_long_videos(prompt, longest_s)
    result = client.run(prompt, timeout=7200)
    return read_frames(client.download(videos_of(result)[0]))


def make(names: list[str], longest_s: float | None = None) -> list[Path]:
    """Make the thumbnails of these workflows and return their files."""
    shown: dict[str, list[Image.Image]] = {}
    files = []
    with temporary_server() as server:
        client = ComfyClient(server.url)
        for name in names:
            source = STAND_INS.get(name, name)
            if source not in shown:
                say(f"  {source}")
                shown[source] = video_frames(client, WORKFLOWS / f"{source}.json", longest_s)
            files.append(WORKFLOWS / f"{name}.jpg")
            picture = thumbnail(shown[source], NOTE if name in STAND_INS else "")
            picture.save(files[-1], quality=85, optimize=True)
    return files


def main() -> int:
    every = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
    parser = argparse.ArgumentParser(
        prog="dev.py remake thumbnails", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows (default: all)")
    parser.add_argument("--seconds", type=float, help="cut the long videos to this length, to save time")
    options = parser.parse_args()
    if unknown := set(options.names) - set(every):
        parser.error(f"no workflow {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    for path in make(options.names or every, options.seconds):
        say(f"{path.relative_to(PACK)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
