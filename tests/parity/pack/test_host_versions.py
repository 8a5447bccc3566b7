"""Which ComfyUI the pack fits: names that it touches, and one line of the log for a version that is not as tested."""

import json
import subprocess
import sys
import tomllib

import pytest
from magic141.model_patches.bridge import NEWEST, OLDEST
from magic141.tools.host import COMFYUI_VERSION, use_comfyui

use_comfyui()

from magic141.tools import host_names
from magic141.tools.host_names import ROOT, host_has, names_gone, names_used, read_table

NEWER = f"{NEWEST.rpartition('.')[0]}.7"
LACKS = "CallbacksMP"
"""A name of the host that is taken away to see what the pack says."""
VERSIONS = {"0.29.9": "", "0.3.64": "", NEWER: "", "0.46.0": "", "1.0.0": LACKS}
"""Version that the host says it has, and the name it lacks."""
PROGRAM = """
import asyncio, json, sys
from unittest import mock
from magic141.tools.host import use_comfyui
use_comfyui("--base-directory", sys.argv[1])
import comfyui_version, comfy.patcher_extension, nodes
for pack, version, lacks in json.loads(sys.argv[2]):
    comfyui_version.__version__ = version
    missing = vars(comfy.patcher_extension).pop(lacks, None)
    with mock.patch.dict(nodes.NODE_CLASS_MAPPINGS):
        print("of", version, file=sys.stderr, flush=True)
        loaded = asyncio.run(nodes.load_custom_node(pack))
        print(loaded, sum(name.startswith("Magic141") for name in nodes.NODE_CLASS_MAPPINGS))
    if lacks:
        setattr(comfy.patcher_extension, lacks, missing)
"""


@pytest.fixture(scope="module")
def loads(tmp_path_factory) -> dict[str, tuple[str, list[str]]]:
    """Let ComfyUIs of other versions load the pack; return what came of it, and what the log says of the pack."""
    folder = tmp_path_factory.mktemp("versions")
    hosts = []
    for number, (version, lacks) in enumerate(VERSIONS.items()):
        pack = folder / f"magic141_{number}"  # each link is a package of its own to the host
        pack.symlink_to(ROOT, target_is_directory=True)
        hosts.append((str(pack), version, lacks))
    command = [sys.executable, "-c", PROGRAM, str(folder), json.dumps(hosts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    said: dict[str, list[str]] = {}
    for line in done.stderr.splitlines():
        if line.startswith("of "):
            said[line.removeprefix("of ")] = []
        elif "Magic141" in line:
            said[list(said)[-1]].append(line.split(":", 2)[-1])
    return {
        v: (line, said[v])
        for v, line in zip(VERSIONS, done.stdout.splitlines()[-len(VERSIONS) :], strict=True)
    }


def test_this_comfyui_has_every_name_that_the_pack_touches():
    gone = names_gone(read_table())
    assert not gone, "\n" + "\n".join(gone)


def test_the_table_lists_what_the_pack_touches():
    listed = read_table()["names"].keys()
    assert list(listed) == list(names_used()), "run: python3 dev.py remake host_names"


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
    file, line = names_used()["comfy.samplers.CFGGuider"].split(":")
    assert "CFGGuider" in (ROOT / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]


@pytest.mark.parametrize("version", ["0.29.9", "0.3.64"])
def test_an_older_comfyui_is_told_so_in_one_line(loads, version):
    loaded, lines = loads[version]
    assert loaded == "False 0"
    assert lines == [
        f"Magic141 needs ComfyUI {OLDEST} or newer; this is {version}. Its nodes are not loaded. Update ComfyUI."
    ]


def test_a_newer_comfyui_loads_the_pack_and_is_named(loads):
    loaded, lines = loads["0.46.0"]
    assert int(loaded.removeprefix("True ")) > 20
    assert lines == [f"Magic141 was tested with ComfyUI {OLDEST} to {NEWEST}; this is 0.46.0."]


def test_a_newer_comfyui_that_lacks_a_name_is_told_so_in_one_line(loads):
    loaded, (line,) = loads["1.0.0"]
    assert loaded == "False 0"
    assert line.startswith(f"Magic141 does not fit ComfyUI 1.0.0: cannot import name '{LACKS}'")
    assert line.endswith(f"It was tested up to {NEWEST}. Its nodes are not loaded. Update Magic141.")


def test_a_tested_comfyui_says_nothing(loads):
    loaded, lines = loads[NEWER]
    assert int(loaded.removeprefix("True ")) > 20
    assert lines == []
