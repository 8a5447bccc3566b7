"""Image indexes of tiny pictures, embedded as their mean color."""

import torch
from magic141.model_patches.retrieval.build import build_index
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.retrieval.records import Model
from magic141.model_patches.retrieval.search import unit_length
from PIL import Image


class MeanColor:
    """Embed a picture as its mean color, and count how often."""

    image_size = 8

    def __init__(self, fail_after=None):
        self.num_embedded, self.fail_after = 0, fail_after

    def prepare(self, image):
        return torch.frombuffer(bytearray(image.resize((8, 8)).tobytes()), dtype=torch.uint8).reshape(8, 8, 3)

    def embed_prepared(self, images):
        self.num_embedded += len(images)
        if self.fail_after is not None and self.num_embedded > self.fail_after:
            raise KeyboardInterrupt
        return torch.cat([images.float().mean((1, 2)) + 1, torch.ones(len(images), 1)], dim=1)


MODEL = Model("mean color", [1.0, 0.0, 0.0, 0.0])


def write_pictures(root):
    """Write five pictures in folders and subfolders."""
    for i, name in enumerate(["b.png", "a/2.png", "a/1.png", "a.png", "z/y/x.png"]):
        add(root / name, (40 * i, 255 - 40 * i, 30))
    return root


def add(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), color).save(path)


def empty(tmp_path, model=MODEL):
    directory = tmp_path / "index"
    directory.mkdir(exist_ok=True)
    return ImageIndex.empty(directory, folder="input/pictures", model=model)


def build(old, folder, embedder=None, **options):
    embedder = embedder or MeanColor()
    index, report = build_index(old, folder, embedder, **options)
    assert [row.path for row in index.rows()] == [row.path for row in ImageIndex.open(index.directory).rows()]
    return index, report, embedder


def paths(index):
    """Return the paths of an index in the order in which a folder is listed."""
    return sorted((row.path for row in index.rows()), key=lambda path: path.split("/"))


def check_vectors(index, folder):
    """Compare every stored vector with that of its picture now."""
    made = index.vectors[[row.position for row in index.rows()]].float()
    embedder = MeanColor()
    wanted = [embedder.prepare(Image.open(folder / row.path).convert("RGB")) for row in index.rows()]
    torch.testing.assert_close(
        made, unit_length(embedder.embed_prepared(torch.stack(wanted))), rtol=0, atol=1e-3
    )


def many(root, numbers):
    for i in numbers:
        add(root / f"{i // 10:02}/{i:03}.png", (i, 255 - i, i * 7 % 255))
