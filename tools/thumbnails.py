"""Thumbnails of the workflows: ``workflows/<title>.jpg``, the video that each workflow makes, small and moving.

Run as ``python3 dev.py remake thumbnails [--seconds S] [NAME ...]`` whenever the embedded model has changed.
ComfyUI's template browser looks for a .jpg with the workflow's name; the file holds an animated WebP, which every
browser plays.
"""

import argparse
import io
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .client import ComfyClient
from .demo import cut_long_videos, read_frames, say, videos_of
from .graph import workflow_to_prompt
from .server import PACK, temporary_server
from .templates import TITLES, template

SIDE_PX, BAND_PX = 240, 20
MOST_FRAMES, FPS = 32, 8
"""At most so many frames of a video are shown, evenly spaced, at this rate."""
MOST_BYTES = 9_000
QUALITIES = (80, 60, 45, 30, 20, 10, 5, 1)
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
    "magic141_fast_on_one_gpu": "magic141_image_to_video",
    "magic141_ltx23_one_minute_with_sound": "magic141_any_graph_minute",
}
"""Workflows whose weights are not in the pack, and for each the one that does the same with the embedded model."""
NOTE = "shown with the embedded model"


def thumbnail(frames: list[Image.Image], note: str = "") -> list[Image.Image]:
    """Return the pictures of a thumbnail: frames of a video, each in a square.

    Args:
        frames: all frames of the video.
        note: a line of text below them.
    """
    return [square(frame, note) for frame in evenly(frames, min(MOST_FRAMES, len(frames)))]


def square(frame: Image.Image, note: str) -> Image.Image:
    picture = Image.new("RGB", (SIDE_PX, SIDE_PX), "#171718")
    height = SIDE_PX - (BAND_PX if note else 0)
    scale = min(SIDE_PX / frame.width, height / frame.height)
    size = round(frame.width * scale), round(frame.height * scale)
    where = (SIDE_PX - size[0]) // 2, (height - size[1]) // 2
    picture.paste(frame.resize(size, Image.Resampling.BICUBIC), where)
    if note:
        middle = SIDE_PX / 2, SIDE_PX - BAND_PX / 2
        ImageDraw.Draw(picture).text(
            middle, note, font=ImageFont.load_default(11), fill="#cccccc", anchor="mm"
        )
    return picture


def evenly(frames: list, count: int) -> list:
    """Return ``count`` evenly spaced entries of a list, including the first and the last."""
    return [frames[round(index * (len(frames) - 1) / max(1, count - 1))] for index in range(count)]


def encode(pictures: list[Image.Image]) -> bytes:
    """Return an animated WebP of at most ``MOST_BYTES`` in the best quality that fits, if need be of fewer pictures."""
    if len(animated(pictures, QUALITIES[-1])) > MOST_BYTES:
        return encode(pictures[::2])
    return next(data for quality in QUALITIES if len(data := animated(pictures, quality)) <= MOST_BYTES)


def animated(pictures: list[Image.Image], quality: int) -> bytes:
    """Return the pictures as an animated WebP."""
    memory = io.BytesIO()
    first, *others = pictures
    options = {"duration": 1000 // FPS, "loop": 0, "quality": quality, "method": 6}
    first.save(memory, "WEBP", save_all=True, append_images=others, **options)
    return memory.getvalue()


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
                shown[source] = video_frames(client, template(source), longest_s)
            files.append(template(name).with_suffix(".jpg"))
            files[-1].write_bytes(encode(thumbnail(shown[source], NOTE if name in STAND_INS else "")))
    return files


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake thumbnails", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows (default: all)")
    parser.add_argument("--seconds", type=float, help="cut the long videos to this length, to save time")
    options = parser.parse_args()
    if unknown := set(options.names) - set(TITLES):
        parser.error(f"no workflow {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    for path in make(options.names or list(TITLES), options.seconds):
        say(f"{path.relative_to(PACK)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
