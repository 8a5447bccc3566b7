"""Building a training set: what is encoded, what is taken over, and what a kill in the middle leaves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from magic141.model_patches.training.dataset import TrainingSet
from magic141.tests.support.tiny_videos import write_captioned
from magic141.tools.host import use_comfyui

use_comfyui()
from magic141.model_patches.bridge.encoders.socket import Magic141Encoders
from magic141.model_patches.bridge.graph_identity import GraphIdentity
from magic141.model_patches.bridge.training import dataset as building
from magic141.model_patches.bridge.training.dataset import SetModels, SetRequest, build_training_set

REQUEST = SetRequest(32, 32, 5, 24.0, 0, True)


class CountingVae:
    """Shapes like HunyuanVideo's VAE; counts the clips it encodes and may be told to die."""

    latent_channels, latent_dim = 16, 3

    def __init__(self) -> None:
        self.first_stage_model = torch.nn.Linear(1, 1)
        self.num_encoded, self.dies_after = 0, 99

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        if self.num_encoded == self.dies_after:
            raise KeyboardInterrupt
        self.num_encoded += 1
        count, height, width, _ = frames.shape
        return torch.full((1, 16, (count - 1) // 4 + 1, height // 8, width // 8), float(frames.mean()))


class CountingBackend:
    """States of the right shapes; counts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.pictures: list[tuple[int, ...]] = []

    def prompt_states(self, prompt: str):
        self.prompts.append(prompt)
        return torch.zeros(1, 1 + len(prompt.split()), 8), torch.zeros(1, 12)

    def image_states(self, images: list[torch.Tensor]) -> torch.Tensor:
        self.pictures += [tuple(image.shape) for image in images]
        return torch.ones(1, 6, 8)


@pytest.fixture
def videos(tmp_path, monkeypatch) -> Path:
    """Three captioned videos in a folder the host may read."""
    monkeypatch.setattr(building, "resolve_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(building, "folder_label", lambda folder: f"input/{folder.name}")
    monkeypatch.setattr(building, "set_directory", lambda name: tmp_path / "sets" / name)
    for number in range(3):
        path = tmp_path / "videos" / f"{number}.mp4"
        write_captioned(path, f"video number {number}", num_frames=10 + number)
    return tmp_path / "videos"


KNOWN = (GraphIdentity("the encoders"), GraphIdentity("the VAE"))


def build(vae=None, backend=None, *, request=REQUEST, folder="videos", graphs=KNOWN, **options):
    models = SetModels(Magic141Encoders(backend or CountingBackend()), vae or CountingVae(), *graphs)
    return build_training_set("a", folder, models, request, **options)


def test_windows_are_encoded_and_the_vlm_sees_them_whole(videos):
    vae, backend = CountingVae(), CountingBackend()
    made, report = build(vae, backend)
    assert len(made) == vae.num_encoded == len(backend.pictures) == 6
    assert backend.pictures[0] == (32, 48, 3)
    assert backend.prompts == ["", "video number 0", "video number 1", "video number 2"]
    tensors = made.load_video(made.videos[0])
    assert tensors["latents"].shape == (2, 16, 2, 4, 4)
    assert 0.1 < float(tensors["latents"][0].mean()) / 0.476986 < 0.9
    assert "3 videos encoded now, 0 reused" in report
    assert "3 videos have another shape" in report


def test_the_vlm_sees_the_frames_that_sliding_window_extend_shows_it(videos):
    """The last known frame of 1, 2 and 3 known latent frames, as a window that goes on with a video has it."""
    write_captioned(videos / "long.mp4", "long", num_frames=13)
    backend, brightness = CountingBackend(), []

    def image_states(images):
        brightness.append(float(images[0].float().mean()))
        return torch.full((1, 6, 8), float(len(brightness)))

    backend.image_states = image_states
    made, _ = build(backend=backend, request=replace(REQUEST, num_frames=13))
    (video,) = made.videos
    assert made.load_video(video)["image_states"][0, :, 0, 0].tolist() == [1, 2, 3]
    assert brightness == sorted(brightness)
    assert brightness[2] - brightness[0] > 20


def test_a_second_build_encodes_nothing(videos):
    build()
    vae, backend = CountingVae(), CountingBackend()
    _, report = build(vae, backend)
    assert (vae.num_encoded, backend.prompts, backend.pictures) == (0, [], [])
    assert "0 videos encoded now, 3 reused" in report


def test_a_new_caption_encodes_text_alone(videos):
    build()
    (videos / "1.txt").write_text("said otherwise")
    vae, backend = CountingVae(), CountingBackend()
    made, _ = build(vae, backend)
    assert (vae.num_encoded, backend.prompts) == (0, ["said otherwise"])
    assert made.videos[1].captions == ("said otherwise",)


def test_a_changed_video_is_encoded_again_and_a_removed_one_leaves(videos):
    build()
    write_captioned(videos / "1.mp4", "video number 1", num_frames=5)
    (videos / "2.mp4").unlink()
    vae = CountingVae()
    made, _ = build(vae)
    assert vae.num_encoded == 1
    assert [video.path for video in made.videos] == ["0.mp4", "1.mp4"]
    assert len(list((made.directory / "videos").iterdir())) == 2


def test_a_killed_build_goes_on_where_it_stopped(videos):
    vae = CountingVae()
    vae.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        build(vae)
    left = TrainingSet.open(building.set_directory("a"))
    assert not left.complete
    assert [video.path for video in left.videos] == ["0.mp4"]
    vae = CountingVae()
    made, _ = build(vae)
    assert vae.num_encoded == 4
    assert made.complete
    assert len(made) == 6


def test_another_folder_or_size_under_the_same_name_is_refused_until_told(videos):
    build()
    other = replace(REQUEST, width=48)
    with pytest.raises(ValueError, match=r"width was 32 and is now 48.*turn on 'replace'"):
        build(request=other)
    videos.rename(videos.with_name("moved"))
    with pytest.raises(ValueError, match="of the folder 'input/videos', not 'input/moved'"):
        build(folder="moved")
    vae = CountingVae()
    made, _ = build(vae, request=other, folder="moved", replace_other=True)
    assert (made.folder, made.settings.width, vae.num_encoded) == ("input/moved", 48, 6)


def test_models_that_are_loaded_otherwise_make_another_set(videos):
    first, _ = build()
    others = (
        (GraphIdentity("the encoders with a LoRA"), KNOWN[1]),
        (KNOWN[0], GraphIdentity("a fine-tuned VAE")),
    )
    for graphs, said in zip(others, ("the encoders are", "the VAE is"), strict=True):
        with pytest.raises(ValueError, match=rf"settings \({said} loaded differently\).*turn on 'replace'"):
            build(graphs=graphs)
    vae, backend = CountingVae(), CountingBackend()
    made, _ = build(vae, backend, graphs=others[0], replace_other=True)
    assert (vae.num_encoded, len(backend.prompts), len(backend.pictures)) == (6, 4, 6)
    assert {video.key for video in made.videos}.isdisjoint(video.key for video in first.videos)


def test_models_that_cannot_be_known_are_said(videos):
    build()
    unknown = (GraphIdentity("never twice", ("Roulette",)), KNOWN[1])
    with pytest.raises(
        ValueError, match=r"turn on 'replace'.*\"Roulette\" may give something else each time"
    ):
        build(graphs=unknown)


def test_most_videos_choose_the_bucket(videos):
    for number in range(4):
        path = videos / f"tall{number}.mp4"
        write_captioned(path, "tall", num_frames=5, width=32, height=48)
    made, _ = build(request=replace(REQUEST, bucket="540p"))
    assert (made.settings.width, made.settings.height) == (624, 832)


def test_states_that_are_not_finite_stop_the_build(videos):
    backend = CountingBackend()
    backend.image_states = lambda images: torch.full((1, 6, 8), float("nan"))
    with pytest.raises(ValueError, match="The VLM gave values that are not finite"):
        build(backend=backend)


def test_a_vae_that_gives_nan_is_said_of_every_video(videos):
    vae = CountingVae()
    vae.encode = lambda frames: torch.full((1, 16, 2, 4, 4), float("nan"))
    with pytest.raises(ValueError, match=r"(?s)None of the 3 videos.*is it the right VAE") as error:
        build(vae)
    assert "skipped 2.mp4" in str(error.value)


@pytest.mark.parametrize("fps", [float("nan"), float("inf"), 0.0])
def test_a_rate_that_is_none_is_refused(videos, fps):
    with pytest.raises(ValueError, match=f"fps is {fps}; it must be a number greater than 0"):
        build(request=replace(REQUEST, fps=fps))


def test_a_damaged_shard_is_encoded_again(videos):
    first, _ = build()
    shard = first.directory / "videos" / f"{first.videos[1].key}.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    vae = CountingVae()
    made, report = build(vae)
    assert (vae.num_encoded, len(made.checksums)) == (2, 7)
    assert "1 videos encoded now, 2 reused" in report
    assert made.content() == first.content()


def test_rewritten_captions_are_other_content(videos):
    first, _ = build()
    (videos / "1.txt").write_text("said otherwise")
    made, _ = build()
    assert made.content() != first.content()
    assert len(made) == len(first)


@pytest.mark.parametrize("version", [1, 2])
def test_a_set_of_an_older_version_is_not_taken_for_one_of_these_models(videos, version):
    """It knows digests of some weights, which a LoRA that runs beside them leaves as they are."""
    made, _ = build()
    manifest = made.directory / "set.json"
    old = json.loads(manifest.read_text()) | {"version": version}
    old["settings"] |= {"encoders": "0" * 64, "vae": "1" * 64}
    manifest.write_text(json.dumps(old))
    with pytest.raises(ValueError, match=r"by an older version of this pack.*turn on 'replace'"):
        build()
    vae = CountingVae()
    again, _ = build(vae, replace_other=True)
    assert vae.num_encoded == 0, "the shards are named after these models"
    assert TrainingSet.open(made.directory).checksums == again.checksums == made.checksums
