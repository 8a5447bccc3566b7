"""The zip for the registry, installed and updated by ComfyUI-Manager's rules in a fresh ComfyUI."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from magic141.tests.server.test_workflows import read, uncached
from magic141.tools import manager
from magic141.tools.client import ComfyClient
from magic141.tools.demo import videos_of
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.server import PACK, ComfyServer
from magic141.tools.templates import template

LARGEST_MB = 60
NOT_SHIPPED = ("tests/", ".ci/", "lab/", "docs/", "tools/", "dev.py", "assets/", ".git")


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    return manager.pack_zip(PACK, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def updated(packed, tmp_path_factory) -> Iterator[ComfyServer]:
    """A server with the pack installed from an older zip, then updated; the user has put a file of theirs into it."""
    base = tmp_path_factory.mktemp("fresh")
    older = base / "older.zip"
    older.write_bytes(packed.read_bytes())
    with zipfile.ZipFile(older, "a") as archive:
        archive.writestr("nodes/dropped_since.py", "# of an older version\n")
    folder = manager.install(older, base / "custom_nodes", "magic141")
    (folder / "nodes" / "my_notes.txt").write_text("mine")
    manager.update(packed, folder)
    with ComfyServer(base, pack=folder) as server:
        yield server


def test_comfy_cli_has_nothing_against_the_pack(packed):
    said = manager.comfy(packed.parent, "node", "validate")
    assert "passed" in said
    assert "Warning" not in said


def test_the_zip_holds_the_pack_and_nothing_else(packed):
    names = zipfile.ZipFile(packed).namelist()
    assert [name for name in names if name.startswith(NOT_SHIPPED) or name.endswith(".pyc")] == []
    rooms = {name.partition("/")[0] for name in names}
    wanted = {"__init__.py", "nodes", "model_patches", "embedded", "web", "locales", "workflows", "subgraphs"}
    assert wanted | {"pyproject.toml", "requirements.txt", "LICENSE", "README.md"} <= rooms
    assert packed.stat().st_size < LARGEST_MB * 1e6


def test_an_update_takes_old_files_away_and_leaves_the_users(updated):
    folder = updated.base / "custom_nodes" / "magic141"
    assert not folder.is_symlink()
    assert not (folder / "nodes" / "dropped_since.py").exists()
    assert (folder / "nodes" / "my_notes.txt").read_text() == "mine"


def test_the_installed_pack_works(updated):
    assert "Traceback" not in updated.log_text(), updated.log_tail()
    client = ComfyClient(updated.url)
    info = client.object_info()
    ours = {name for name in info if name.startswith("Magic141") and not info[name].get("dev_only")}
    docs = updated.base / "custom_nodes" / "magic141" / "web" / "docs"
    assert ours == {path.stem for path in docs.glob("*.md")}
    assert client.get_json("/workflow_templates")["magic141"]
    workflow = read(template("magic141_image_to_video"))
    result = client.run(uncached(workflow_to_prompt(workflow, info), "packed"), workflow=workflow)
    assert videos_of(result)
