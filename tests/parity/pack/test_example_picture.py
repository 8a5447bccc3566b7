"""The picture that the workflows start from is offered once, and an input folder that refuses it stops nothing."""

import logging
from pathlib import Path

import pytest
from magic141.tools.host import use_comfyui

use_comfyui()

import folder_paths
from magic141.model_patches.bridge.folders import EXAMPLE, offer_example_image


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "input"
    monkeypatch.setattr(folder_paths, "input_directory", str(folder))
    return folder


def test_it_is_put_there_once_and_a_picture_of_the_user_stays(folder):
    folder.mkdir()
    offer_example_image()
    assert (folder / EXAMPLE.name).read_bytes() == EXAMPLE.read_bytes()
    (folder / EXAMPLE.name).write_bytes(b"mine")
    offer_example_image()
    assert (folder / EXAMPLE.name).read_bytes() == b"mine"


def test_an_input_folder_that_cannot_be_written_is_said_and_the_pack_goes_on(folder, caplog):
    folder.write_bytes(b"")  # a file refuses everybody, while mode bits do not bind root
    with caplog.at_level(logging.WARNING):
        offer_example_image()
    assert "the example picture could not be put into the input folder" in caplog.text
    assert folder.read_bytes() == b""


def test_a_link_that_leads_nowhere_is_not_written_through(folder, tmp_path):
    folder.mkdir()
    try:
        (folder / EXAMPLE.name).symlink_to(tmp_path / "elsewhere.png")
    except OSError:
        pytest.skip("this system makes no links")
    offer_example_image()
    assert not (tmp_path / "elsewhere.png").exists()
