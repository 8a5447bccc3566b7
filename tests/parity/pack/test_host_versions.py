"""Which ComfyUI the pack fits: names that it touches, and one line of the log for a version that is not as tested."""

import subprocess
import sys
import tomllib

import pytest
from magic141.model_patches.bridge import NEWEST, OLDEST
from magic141.tools.host import COMFYUI_VERSION, use_comfyui

use_comfyui()

from magic141.tools import host_names
from magic141.tools.host_names import ROOT, host_has, names_gone, names_touched, read_table

PROGRAM = """
import asyncio, sys
from magic141.tools.host import use_comfyui
use_comfyui("--base-directory", sys.argv[1])
import comfyui_version, comfy.patcher_extension, nodes
comfyui_version.__version__ = sys.argv[3]
if len(sys.argv) > 4:
    delattr(comfy.patcher_extension, sys.argv[4])
loaded = asyncio.run(nodes.load_custom_node(sys.argv[2]))
print(loaded, sum(name.startswith("Magic141") for name in nodes.NODE_CLASS_MAPPINGS))
"""


def load(tmp_path, *arguments: str) -> tuple[str, list[str]]:
    """Let a ComfyUI of another version load the pack; return what came of it, and what the log says of the pack."""
    pack = tmp_path / "magic141"
    pack.symlink_to(ROOT, target_is_directory=True)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(pack), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()[-1], [
        line.split(":", 2)[-1] for line in done.stderr.splitlines() if "Magic141" in line
    ]


def test_this_comfyui_has_every_name_that_the_pack_touches():
    gone = names_gone(read_table())
    assert not gone, "\n" + "\n".join(gone)


def test_the_table_lists_what_the_pack_touches():
    listed = read_table()["names"].keys()
    assert list(listed) == list(names_touched()), "run: python3 dev.py remake host_names"


def test_every_name_was_seen_in_every_version_that_was_tested():
    table = read_table()
    assert (table["hosts"][0], table["hosts"][-1]) == (OLDEST, NEWEST)
    assert COMFYUI_VERSION == OLDEST
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["comfy"]["requires-comfyui"] == f">={OLDEST}"
    names = host_names.all_names(table)
    assert {name: seen for name, seen in names.items() if seen != table["hosts"]} == {}


@pytest.mark.parametrize(
    "name", ["comfy.no_such_module", "comfy.sd.no_such", "comfy.sd.VAE.no_such", "no_such"]
)
def test_a_name_that_is_gone_is_said_in_one_line(name):
    assert not host_has(name)
    (line,) = names_gone({"names": {name: "0.28.0 0.30.0"}, "members": {"comfy.sd.VAE.decode": "0.30.0"}})
    assert line.endswith(f" has no {name} (last seen in 0.30.0), which the pack uses.")


@pytest.mark.parametrize(
    "name",
    [
        "comfy.sd.VAE.first_stage_model",  # set on each object
        "comfy.ldm.hunyuan_video.model.HunyuanVideoParams.guidance_embed",  # a field
        "comfy.ops.quant_format",  # set by a function on the modules of others
        "server.PromptServer.instance",  # set by a running server
    ],
)
def test_what_only_objects_have_is_found(name):
    assert host_has(name)


def test_the_place_of_every_use_is_named():
    file, line = names_touched()["comfy.samplers.CFGGuider"].split(":")
    assert "CFGGuider" in (ROOT / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]


@pytest.mark.parametrize("version", ["0.29.9", "0.3.64"])
def test_an_older_comfyui_is_told_so_in_one_line(tmp_path, version):
    loaded, lines = load(tmp_path, version)
    assert loaded == "False 0"
    assert lines == [
        f"Magic141 needs ComfyUI {OLDEST} or newer; this is {version}. Its nodes are not loaded. Update ComfyUI."
    ]


def test_a_newer_comfyui_loads_the_pack_and_is_named(tmp_path):
    loaded, lines = load(tmp_path, "0.46.0")
    assert int(loaded.removeprefix("True ")) > 20
    assert lines == [f"Magic141 was tested with ComfyUI {OLDEST} to {NEWEST}; this is 0.46.0."]


def test_a_newer_comfyui_that_lacks_a_name_is_told_so_in_one_line(tmp_path):
    loaded, (line,) = load(tmp_path, "1.0.0", "CallbacksMP")
    assert loaded == "False 0"
    assert line.startswith("Magic141 does not fit ComfyUI 1.0.0: cannot import name 'CallbacksMP'")
    assert line.endswith(f"It was tested up to {NEWEST}. Its nodes are not loaded. Update Magic141.")


def test_a_tested_comfyui_says_nothing(tmp_path):
    loaded, lines = load(tmp_path, f"{NEWEST.rpartition('.')[0]}.7")
    assert int(loaded.removeprefix("True ")) > 20
    assert lines == []
