"""The image prior nodes in the host's own process: folder rules, refusals, retrieval and lazy choice."""

import errno
import inspect
import os
import shutil
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tools.host import use_comfyui
from PIL import Image

use_comfyui()

import folder_paths
from magic141.model_patches.bridge import folders as image_folders
from magic141.model_patches.bridge.retrieval.embedders import ClipVisionEmbedder, load_clip
from magic141.model_patches.retrieval.index import ImageIndex
from magic141.model_patches.retrieval.write import IndexWriter
from magic141.model_patches.store.directory_lock import DirectoryLock
from magic141.model_patches.store.disk import DiskRefused
from magic141.nodes.image_index import BuildImageIndex
from magic141.nodes.image_prior import AUTOMATIC, ImagePrior
from magic141.nodes.limits import keep_limits
from magic141.nodes.refusals import say_refusals
from magic141.nodes.retrieve_image_prior import RetrieveImagePrior
from magic141.nodes.training_set import BuildTrainingSet

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    root = tmp_path_factory.mktemp("text_encoders")
    write_clip_folder(root / "tiny_clip")
    write_clip_folder(root / "other_clip", seed=7)
    return root


@pytest.fixture
def host(tmp_path, weights, monkeypatch):
    """Give the host empty input, output and models folders, and pictures in input/pets."""
    for name in ("input", "output", "models"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(
        folder_paths,
        "folder_names_and_paths",
        {"text_encoders": ([str(weights)], set()), "clip_vision": ([], set())},
    )
    for name, colour in COLOURS.items():
        save(tmp_path / f"input/pets/{name}.png", colour, size=(30, 20))
    return tmp_path


def save(path, colour, size=(24, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def build(folder="input/pets", name="pets", clip="tiny_clip", rebuild=False, clip_vision=None):
    with torch.inference_mode():
        return BuildImageIndex.execute(folder, name, clip, 4, rebuild, clip_vision).result


def retrieve(prompt="", *, index="pets", clip="tiny_clip", count=1, threshold=-1.0, diversity=0.0, **wired):
    RetrieveImagePrior.hidden = None
    with torch.inference_mode():
        return RetrieveImagePrior.execute(index, clip, prompt, count, threshold, diversity, **wired).result


def solid(colour):
    return torch.tensor(COLOURS[colour]).float().div(255).expand(1, 24, 24, 3)


def test_a_picture_finds_itself(host):
    name, report = build()
    assert "3 new" in report
    for colour in COLOURS:
        images, scores, paths, _ = retrieve(image=solid(colour), index=name)
        assert paths == [f"input/pets/{colour}.png"]
        assert scores[0] == pytest.approx(1, abs=2e-3)
        assert images.shape == (1, 20, 30, 3)


def test_a_prompt_ranks_every_picture(host):
    build()
    save(host / "input/pets/sub/wide.png", (9, 9, 9), size=(80, 10))
    assert "1 new" in build()[1]
    images, scores, paths, report = retrieve("a red star", count=10)
    assert images.shape[0] == len(scores) == len(paths) == 4
    assert scores == sorted(scores, reverse=True)
    assert "Only 4 of 10" in report


def test_below_the_threshold_it_says_so(host):
    build()
    with pytest.raises(ValueError, match=r"Nothing in 'input/pets' matches: .* below the threshold 0\.990"):
        retrieve("a red star", threshold=0.99)


def test_diversity_avoids_near_duplicates(host):
    for i in range(4):
        save(host / f"input/pets/red{i}.png", (250 - i, 0, 0))
    build()
    plain = retrieve(image=solid("red"), count=3)[2]
    diverse = retrieve(image=solid("red"), count=3, diversity=0.7)[2]
    assert all("red" in path for path in plain)
    assert sum("red" in path for path in diverse) == 1


def test_deleted_and_changed_files_are_skipped_and_reported(host):
    build()
    (host / "input/pets/red.png").unlink()
    save(host / "input/pets/green.png", (1, 2, 3))
    _, _, paths, report = retrieve(image=solid("red"), count=2)
    assert paths == ["input/pets/blue.png"]
    assert "skipped red.png: the file is gone" in report
    assert "skipped green.png: it has changed" in report
    (host / "input/pets/blue.png").unlink()
    with pytest.raises(ValueError, match="can be read any more"):
        retrieve(image=solid("red"))


def test_a_file_replaced_by_a_link_to_the_outside_is_not_read(host):
    build()
    save(host / "secret.png", (255, 0, 0))
    (host / "input/pets/red.png").unlink()
    (host / "input/pets/red.png").symlink_to(host / "secret.png")
    assert retrieve(image=solid("red"))[2] != ["input/pets/red.png"]


def test_an_index_that_names_files_outside_is_not_obeyed(host):
    build()
    save(host / "secret.png", (255, 0, 0))
    with closing(IndexWriter(ImageIndex.open(host / "models/magic141_image_index/pets"))) as writer:
        writer.put(replace(writer.index.row_of("red.png"), path="../../secret.png"))
        writer.commit(complete=True)
    _, _, paths, report = retrieve(image=solid("red"))
    assert "secret" not in paths[0]
    assert "outside the indexed folder" in report


def test_another_model_is_refused_and_rebuild_replaces(host):
    build()
    with pytest.raises(ValueError, match=r"another model: tiny_clip, 32 wide\. This is other_clip"):
        retrieve("a red star", clip="other_clip")
    with pytest.raises(ValueError, match="made by another model"):
        build(clip="other_clip")
    assert "3 new" in build(clip="other_clip", rebuild=True)[1]
    assert retrieve("a red star", clip="other_clip")


def test_another_folder_under_the_same_name_is_refused(host):
    build()
    save(host / "input/cars/a.png", (1, 1, 1))
    with pytest.raises(ValueError, match="is of the folder 'input/pets'"):
        build(folder="input/cars")


@pytest.mark.parametrize("name", ["..", "../../etc", "/etc", "input/../../x", "custom", "~"])
def test_folders_outside_are_refused(host, name):
    (host / "custom").mkdir()
    with pytest.raises(
        (ValueError, FileNotFoundError), match=r"outside what ComfyUI may read|There is no folder"
    ):
        image_folders.resolve_folder(name)
    assert isinstance(keep_limits(BuildImageIndex).validate_inputs(folder=name), str)


@pytest.mark.parametrize("node", [BuildImageIndex, BuildTrainingSet])
def test_a_folder_inside_one_that_cannot_be_entered_is_said(host, monkeypatch, node):
    inside = host / "input" / "lost+found" / "pets"
    inside.mkdir(parents=True)
    stat = os.stat

    def refuse(path, *arguments, **options):
        if str(path) == str(inside):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)  # for everybody, root included
    said = keep_limits(node).validate_inputs(folder="input/lost+found/pets")
    assert f"{inside} cannot be opened or changed: permission denied. Change its permissions" in said
    if node is BuildImageIndex:
        with pytest.raises(DiskRefused, match=r"permission denied\. Change its permissions"):
            say_refusals(node).execute("input/lost+found/pets", "pets", "tiny_clip", 4, False)


def test_a_link_out_of_the_input_folder_is_refused_until_it_is_registered(host):
    outside = host / "elsewhere"
    save(outside / "a.png", (1, 1, 1))
    (host / "input/linked").symlink_to(outside)
    with pytest.raises(ValueError, match="extra_model_paths"):
        image_folders.resolve_folder("input/linked")
    folder_paths.add_model_folder_path("photos", str(outside))
    assert image_folders.resolve_folder("input/linked") == outside
    assert image_folders.resolve_folder("photos") == outside
    assert image_folders.folder_label(outside) == "photos"
    assert build(folder=outside.as_posix(), name="photos")[0] == "photos"


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "x" * 201, "a\nb", "c:d"])
def test_index_names_cannot_leave_their_folder(name):
    assert isinstance(keep_limits(BuildImageIndex).validate_inputs(index_name=name), str)
    with pytest.raises(ValueError, match="cannot be the name"):
        image_folders.index_directory(name)


def test_a_missing_index_and_an_empty_query_are_said(host):
    with pytest.raises(FileNotFoundError, match="Run Build Image Index"):
        retrieve("a red star", index="nothing")
    with pytest.raises(ValueError, match="Write a prompt"):
        retrieve("  ")


def test_a_missing_clip_folder_is_said(host):
    with pytest.raises(FileNotFoundError, match="Found: other_clip, tiny_clip"):
        load_clip("gone")


def test_the_fingerprint_follows_the_folder(host):
    build()
    before = BuildImageIndex.fingerprint_inputs("input/pets", "pets")
    assert BuildImageIndex.fingerprint_inputs("input/pets", "pets") == before
    os.utime(host / "input/pets/red.png", (5, 5))
    assert BuildImageIndex.fingerprint_inputs("input/pets", "pets") != before


def test_the_fingerprint_follows_the_index_too(host):
    """A cached result must not stand for an index that was deleted, or brought to another state, since."""
    build()
    before = BuildImageIndex.fingerprint_inputs("input/pets", "pets")
    red = (host / "input/pets/red.png").rename(host / "red.png")
    build()
    red.rename(host / "input/pets/red.png")
    assert BuildImageIndex.fingerprint_inputs("input/pets", "pets") != before
    shutil.rmtree(host / "models/magic141_image_index/pets")
    missing = BuildImageIndex.fingerprint_inputs("input/pets", "pets")
    assert missing != missing  # not a number: equal to nothing that was cached


def test_two_builds_of_one_index_do_not_mix(host):
    build()
    lock = DirectoryLock(host / "models/magic141_image_index/pets")
    lock.acquire()
    try:
        with pytest.raises(ValueError, match="in use by another run"):
            build()
    finally:
        lock.release()
    build()


def test_numbers_from_linked_nodes_are_checked(host):
    with torch.inference_mode(), pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        BuildImageIndex.execute("input/pets", "pets", "tiny_clip", 0, False)
    build()
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        retrieve("a red star", count=0)


def test_the_host_checks_the_count():
    """It leaves to a node what the node's own check names."""
    assert "count" not in inspect.signature(RetrieveImagePrior.validate_inputs).parameters


def test_the_report_stays_short(host):
    for i in range(30):
        save(host / f"input/pets/{i}.png", (i, 255 - i, 9))
    build()
    for i in range(30):
        (host / f"input/pets/{i}.png").unlink()
    report = retrieve("a red star", count=4)[3]
    assert report.count("the file is gone") == 20
    assert "... and 10 more." in report


def test_a_vision_model_without_projection_is_refused():
    class Tower:
        visual_projection = staticmethod(lambda value: value)

    class ClipVision:
        model, image_size = Tower(), 32

    with pytest.raises(ValueError, match="no projection"):
        ClipVisionEmbedder(ClipVision())


IMAGE = torch.zeros(1, 4, 4, 3)


@pytest.mark.parametrize(
    ("source", "wired", "used"),
    [
        (AUTOMATIC, ["generated", "retrieved", "uploaded"], "generated"),
        (AUTOMATIC, ["retrieved", "uploaded"], "retrieved"),
        (AUTOMATIC, ["uploaded"], "uploaded"),
        ("uploaded", ["generated", "retrieved", "uploaded"], "uploaded"),
        ("retrieved", ["generated", "retrieved"], "retrieved"),
        ("text-to-image", ["generated", "uploaded"], "generated"),
    ],
)
def test_the_prior_asks_only_for_what_it_uses(source, wired, used):
    assert ImagePrior.validate_inputs(source, **dict.fromkeys(wired)) is True
    assert ImagePrior.check_lazy_status(source, **dict.fromkeys(wired)) == [used]
    given = dict.fromkeys(wired) | {used: IMAGE}
    assert ImagePrior.check_lazy_status(source, **given) == []
    assert ImagePrior.execute(source, **given).result[0] is IMAGE


def test_the_prior_says_what_to_connect():
    with pytest.raises(ValueError, match="no picture"):
        ImagePrior.validate_inputs(AUTOMATIC)
    with pytest.raises(ValueError, match="not a source of Image Prior"):
        ImagePrior.validate_inputs("camera", uploaded=None)
    with pytest.raises(ValueError, match="nothing is connected to 'retrieved'"):
        ImagePrior.validate_inputs("retrieved", uploaded=None)
