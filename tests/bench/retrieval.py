"""Retrieval: recall in the shapes world, query speed beside numpy, an unchanged folder, prompt to video in the server.

The pictures of the recall test are of factor combinations held out from training, each different in what is visible.
The query time is measured beside a numpy product over the same vectors in float32, in turns in one process; numpy's
figure is the product alone, ours holds the search for the best ten as well.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from magic141.lab import world
from magic141.model_patches.retrieval.build import build_index
from magic141.model_patches.retrieval.embed import ClipEmbedder, probe_image
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.retrieval.records import Model, Row
from magic141.model_patches.retrieval.search import unit_length
from magic141.model_patches.retrieval.write import ROWS_AT_ONCE, IndexWriter
from magic141.model_patches.store.pictures import to_image
from magic141.tools.demo import run_demo
from magic141.tools.templates import template
from PIL import Image

CLIP = Path(__file__).resolve().parents[2] / "embedded/models/text_encoders/magic141_shapes_clip"
WORKFLOW = template("magic141_retrieval_to_video")
WIDTH, TOP = 768, 10


def distinct_scenes(count: int) -> world.Scenes:
    """Return held-out scenes with one object, no two alike in what a picture shows."""
    generator = torch.Generator().manual_seed(9)
    scenes = world.sample_scenes(8 * count, generator=generator, split="test", second_share=0.0)
    first = {caption: i for i, caption in reversed(list(enumerate(world.appearance_caption(scenes))))}
    if len(first) < count:
        raise RuntimeError(f"Only {len(first)} distinct pictures, {count} wanted: draw more scenes.")
    return scenes[torch.tensor(sorted(first.values())[:count])]


@torch.inference_mode()
def recall(count: int, work: Path) -> dict[str, float]:
    """Measure how often a fully named caption finds its own picture first, through files and index."""
    scenes = distinct_scenes(count)
    folder = work / "pictures"
    folder.mkdir()
    for i, frame in enumerate(world.render_clip(scenes, 1)[:, 0]):
        to_image(frame.movedim(0, -1)).save(folder / f"{i:05}.png")
    embedder = ClipEmbedder.from_folder(CLIP)
    model = Model(CLIP.name, embedder.embed_prepared(probe_image(embedder.image_size))[0].tolist())
    start = time.perf_counter()
    index, _ = build_index(new_index(work / "index", model), folder, embedder)
    seconds = time.perf_counter() - start
    own = list(range(count))  # rows are in path order, which is the order of the scenes
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(1)).tolist()
    queries = embedder.embed_texts(world.named_caption(scenes))
    found = [int(index.search(query, k=1)[1][0]) for query in queries]
    return {
        "recall_at_1": share_equal(found, own),
        "recall_at_1_shuffled_captions": share_equal(found, shuffled),
        "recall_pictures": count,
        "pictures_embedded_per_s": count / seconds,
    }


def share_equal(a: list[int], b: list[int]) -> float:
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def new_index(directory: Path, model: Model) -> ImageIndex:
    directory.mkdir()
    return ImageIndex.empty(directory, folder="input/bench", model=model)


@torch.inference_mode()
def query_speed(count: int, work: Path, *, repeats: int) -> dict[str, float]:
    """Time a search over an index on disk and a plain numpy product, in turns."""
    index = random_index(count, work / "large")
    matrix = index.vectors.float().numpy()
    query = unit_length(torch.randn(WIDTH, generator=torch.Generator().manual_seed(5)))
    vector = query.numpy()
    ours, numpys = in_turns(lambda: index.search(query, k=TOP), lambda: matrix @ vector, repeats)
    best = np.argsort(-(matrix @ vector))[:TOP]
    return {
        "ratio_vs_numpy_bruteforce": ours / numpys,
        "query_ms": 1000 * ours,
        "numpy_product_ms": 1000 * numpys,
        "vectors": count,
        "top_10_agreement": share_equal(index.search(query, k=TOP)[1].tolist(), best.tolist()),
    }


def random_index(count: int, directory: Path) -> ImageIndex:
    """Write an index of random vectors, clustered as real ones are."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(64, WIDTH, generator=generator)
    writer = IndexWriter(new_index(directory, Model("random", [1.0] * WIDTH)))
    for first in range(0, count, ROWS_AT_ONCE):
        num = min(ROWS_AT_ONCE, count - first)
        near = centers[torch.randint(64, (num,), generator=generator)]
        vectors = unit_length(near + torch.randn(num, WIDTH, generator=generator))
        writer.add([Row(f"{first + i:07}.png", "0" * 64, 1, 1, 1) for i in range(num)], vectors)
    writer.commit(complete=True)
    writer.close()
    return ImageIndex.open(directory)


def in_turns(a: Callable, b: Callable, repeats: int) -> tuple[float, float]:
    """Return the median seconds of two functions called in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 2):
        for function, spent in zip((a, b), times, strict=True):
            start = time.perf_counter()
            function()
            if i >= 2:  # the first calls warm up
                spent.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


class ConstantEmbedder:
    """Stand in for a model where only the bookkeeping is timed."""

    image_size = 8

    def prepare(self, image: Image.Image) -> torch.Tensor:
        return torch.zeros(8, 8, 3, dtype=torch.uint8)

    def embed_prepared(self, images: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(images), WIDTH)


def reindex(count: int, work: Path) -> float:
    """Return the seconds to bring an index up to date with a folder in which nothing changed."""
    folder = work / "unchanged"
    Image.new("RGB", (8, 8)).save(work / "small.png")
    small = (work / "small.png").read_bytes()
    for i in range(count):
        path = folder / f"{i // 1000:03}" / f"{i:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small + str(i).encode())
    model = Model("constant", [1.0] * WIDTH)
    build_index(new_index(work / "unchanged_index", model), folder, ConstantEmbedder(), batch_size=256)
    start = time.perf_counter()
    _, report = build_index(ImageIndex.open(work / "unchanged_index"), folder, ConstantEmbedder())
    assert report.kept == count
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py bench retrieval", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="small sizes and no server: does it run at all?")
    options = parser.parse_args()
    quick = options.quick
    with tempfile.TemporaryDirectory(prefix="magic141-bench-") as temporary:
        work = Path(temporary)
        figures = recall(100 if quick else 1000, work)
        figures |= query_speed(10_000 if quick else 100_000, work, repeats=5 if quick else 25)
        figures["reindex_unchanged_10k_s"] = reindex(500 if quick else 10_000, work)
        if not quick:
            figures["prompt_to_retrieval_to_video_s"] = run_demo(WORKFLOW, work / "demo")["generation_s"]
    text = json.dumps(figures, indent=2)
    options.json.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
