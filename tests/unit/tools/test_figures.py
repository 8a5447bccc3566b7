"""Figures in README and docs are those of the files in tests/bench/figures, and of the weights that ship."""

import json
import os
import re
import shutil

import pytest
from magic141.tools import figures
from magic141.tools.figure_tables import BLOCKS, FIGURES, Block, block_text

ROOT = figures.ROOT


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Work on a copy of the figures; return its folder."""
    folder = shutil.copytree(figures.FIGURES, tmp_path / "figures")
    monkeypatch.setattr(figures, "FIGURES", folder)
    return folder


def every_run():
    return [(bench, run) for bench in figures.WEIGHTS for run in figures.read_runs(bench)]


def test_the_pages_hold_the_figures_of_the_weights_that_ship():
    assert figures.problems() == []


def test_every_figure_names_its_command_date_and_weights():
    assert {bench for bench, _ in every_run()} >= {"demo", "window", "distill"}
    for bench, run in every_run():
        assert run["command"].startswith(f"python3 dev.py bench {bench} --json FILE")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", run["date"])
        assert set(run["weights"]) <= {path for paths in figures.WEIGHTS.values() for path in paths}
        assert all(isinstance(value, int | float) for value in run["figures"].values())
    for bench in ("demo", "window", "distill", "retrieval"):
        assert all(run["weights"] for run in figures.read_runs(bench)), f"{bench} measures shipped weights"


def test_a_figure_stands_in_one_run_only_and_none_is_shown_while_it_is_measured_again():
    for bench in figures.WEIGHTS:
        names = [name for run in figures.read_runs(bench) for name in run["figures"]]
        waiting = json.loads((figures.FIGURES / f"{bench}.json").read_text("utf-8")).get(
            "being_measured_again", []
        )
        assert len(names) == len(set(names))
        assert set(names).isdisjoint(waiting)


def test_other_weights_are_noticed(tmp_path):
    for bench_weights in figures.WEIGHTS.values():
        for name in bench_weights:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(ROOT / name)
    assert figures.other_weights(tmp_path) == []
    (tmp_path / figures.FOUR_STEPS).unlink()
    (tmp_path / figures.FOUR_STEPS).write_bytes(b"another LoRA")
    found = figures.other_weights(tmp_path)
    assert any(text.startswith("demo.json") for text in found)
    assert any(text.startswith("window.json") for text in found)
    assert not any(text.startswith("retrieval.json") for text in found)


def test_a_new_measurement_takes_the_place_of_the_old_one(records, tmp_path):
    measured = tmp_path / "int8.json"
    written = {"dit_rel_error_w8a8": 0.017, "stream_peak_extra_mb": 40, "rows": {"of the bench alone": 1}}
    measured.write_text(json.dumps(written), encoding="utf-8")
    figures.take("int8", measured)
    assert "rows" not in figures.read_figures()["int8"]
    assert figures.read_figures()["int8"]["stream_peak_extra_mb"] == 40
    kept = json.loads((records / "int8.json").read_text(encoding="utf-8"))
    assert "dit_rel_error_w8a8" not in kept.get("being_measured_again", [])
    assert kept["runs"][-1]["weights"][figures.TI2V] == figures.hash_file(ROOT / figures.TI2V)


def test_figures_older_than_the_weights_are_refused(records, tmp_path):
    measured = tmp_path / "demo.json"
    measured.write_text("{}", encoding="utf-8")
    os.utime(measured, (0, 0))
    with pytest.raises(ValueError, match=r"older than .*Run `python3 dev.py bench demo"):
        figures.take("demo", measured)


def test_a_changed_number_makes_the_page_stale(records):
    path = records / "window.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.993", "0.883"), encoding="utf-8")
    assert figures.problems() == ["docs/figures.md is stale: run dev.py remake figures"]


def test_a_table_of_something_unmeasured_says_so():
    block = Block("README.md", "figures", ("What",), (("{demo[speed]:.1f}",),))
    with pytest.raises(ValueError, match=r"README.md shows 'speed', which no run"):
        block_text(block, {"demo": {}})


def test_every_row_of_the_figures_names_a_benchmark():
    for row in FIGURES.rows:
        assert row[-1].strip("`") in figures.WEIGHTS
        assert (ROOT / "tests" / "bench" / f"{row[-1].strip('`')}.py").is_file()
    assert {block.page for block in BLOCKS} == {"docs/figures.md", "docs/long_video.md"}


def test_the_first_screen_of_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert next(number for number, line in enumerate(lines) if line.startswith("## ")) <= 40


def test_links_between_pages_lead_somewhere():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "lab" / "README.md",
        *ROOT.glob("docs/*.md"),
    ]
    targets = {
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    }
    assert len(targets) > 10
    assert [(page.name, target) for page, target in targets if not (page.parent / target).is_file()] == []
