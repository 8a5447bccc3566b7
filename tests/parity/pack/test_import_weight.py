"""Importing the pack is light, and no stray file makes it fail."""

import os
import subprocess
import sys

HEAVY = ("diffusers", "peft", "optimum", "torchao", "matplotlib", "playwright")
PROGRAM = """
import sys
from magic141.tools.host import use_comfyui
use_comfyui()
import nodes, comfy.sd, comfy_api.latest
before = set(sys.modules)
import magic141.nodes
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(",".join(sorted(new)))
"""


def test_no_heavy_library_is_imported_with_the_pack():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert not set(done.stdout.strip().splitlines()[-1].split(",")) & set(HEAVY)


STRAY = """
import asyncio, sys
from magic141.tools.host import use_comfyui
use_comfyui("--base-directory", sys.argv[1])
import nodes
import magic141.nodes

async def main():
    extension = await magic141.nodes.comfy_entrypoint()
    await extension.on_load()
    for node in await extension.get_node_list():
        node.GET_SCHEMA()
        print(node.__name__, node.INPUT_TYPES() is not None)

asyncio.run(main())
"""


def test_stray_files_do_not_keep_the_pack_out(tmp_path):
    for category in ("LLM", "text_encoders", "clip_vision", "diffusion_models"):
        folder = tmp_path / "models" / category
        for name, content in {"x": b"[]", "deep": b"[" * 100_000, "bytes": b"\xff"}.items():
            (folder / name).mkdir(parents=True)
            (folder / name / "config.json").write_bytes(content)
        (folder / "pipe").mkdir()
        os.mkfifo(folder / "pipe" / "config.json")
        (folder / "self").symlink_to("self")
        os.mkdir(os.fsencode(folder) + b"/\xff")
    (tmp_path / "models/LLM/round").symlink_to(tmp_path / "models")
    (tmp_path / "input").mkdir()
    (tmp_path / "input/magic141_example.png").symlink_to(tmp_path / "nowhere.png")
    command = [sys.executable, "-c", STRAY, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" True") > 10
    assert done.stderr.count("x/config.json is not readable") == 1
    assert not (tmp_path / "nowhere.png").exists()
