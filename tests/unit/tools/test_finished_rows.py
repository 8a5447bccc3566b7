"""What a benchmark takes over from an earlier run: only what nothing has changed behind."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from magic141.tests.bench.support.finished_rows import FinishedRows, sources_of
from magic141.tools.imports import ROOT, files_behind, imports_of

BENCHES = ROOT / "tests" / "bench"
LOADED = """
import sys
from magic141.tools.host import use_comfyui
use_comfyui()
import magic141.tests.bench.{name}
import magic141.tests.support.shapes_models
import magic141.model_patches.bridge.window.run
print(*(m.__file__ for n, m in sys.modules.items() if n.startswith("magic141.") and m.__file__), sep="\\n")
"""


def test_a_cut_measurement_goes_on_and_other_code_begins_again(tmp_path):
    code, kept = tmp_path / "code.py", tmp_path / "rows.json"
    code.write_text("1")
    measured = []

    def measure() -> dict[str, float]:
        measured.append(1)
        return {"x": 2.0}

    for _ in range(2):
        assert FinishedRows(kept, [code]).get("row", measure) == {"x": 2.0}
    assert len(measured) == 1
    code.write_text("2")
    FinishedRows(kept, [code]).get("row", measure)
    assert len(measured) == 2


def test_every_file_that_a_benchmark_loads_is_one_of_its_sources():
    code = LOADED.format(name="window")
    out = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded = {Path(line).resolve() for line in out.splitlines() if Path(line).resolve().is_relative_to(ROOT)}
    shim = ROOT / "tests" / "shim"
    assert len(loaded) > 40
    assert {path for path in loaded if not path.is_relative_to(shim)} - set(
        sources_of(BENCHES / "window.py")
    ) == set()


@pytest.mark.parametrize("bench", ["window", "distill"])
def test_the_sources_hold_code_loaded_late_and_the_weights(bench):
    names = {
        path.relative_to(ROOT).as_posix()
        for path in sources_of(BENCHES / f"{bench}.py")
        if path.is_relative_to(ROOT)
    }
    assert {"model_patches/sampler.py", "lab/world/measure.py", "lab/models/taehv.py"} <= names
    assert "embedded/models/vae/magic141_shapes_vae.safetensors" in names
    assert "embedded/models/text_encoders/magic141_shapes_llava/config.json" in names
    assert bench != "window" or "model_patches/bridge/loading.py" in names, "it is imported inside a function"


def test_imports_are_read_whole():
    needed = {path.relative_to(ROOT).as_posix() for path in files_behind(BENCHES / "distill.py")}
    assert {"lab/__init__.py", "lab/world/__init__.py", "lab/world/render.py"} <= needed
    assert ("lab", "experiment", "judge", "judge") in imports_of(BENCHES / "distill.py")


def test_speed_and_memory_are_never_taken_over():
    tree = ast.parse((BENCHES / "window.py").read_text(encoding="utf-8"))
    kept = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "rows.get"
    ]
    assert len(kept) >= 3
    assert [call for call in kept if "measure_speed" in call or "measure_memory" in call] == []
