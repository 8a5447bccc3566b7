"""The experiment's numbers: updates to 90 % of a gain, tables over seeds."""

import json
import math

import pytest
import torch
from magic141.lab.experiment.tables import (
    cell,
    convergence,
    mean_rows,
    read_curves,
    updates_to_share,
    write_report,
)

UPDATES = torch.arange(0, 70, 10)


def clips(*heights: float, count: int = 100) -> torch.Tensor:
    """Return a (P, N) curve whose share of clean clips is as listed."""
    return torch.stack([(torch.arange(count) < h * count).int() for h in heights])


def test_updates_to_share_of_the_gain():
    curve = clips(0.2, 0.3, 0.7, 0.7, 0.7, 0.7, 0.7)
    # 0.2 + 0.9 * 0.5 = 0.65; running means of three looks: 0.3, 0.5, 0.57, 0.7
    assert updates_to_share(UPDATES, curve) == 40
    assert updates_to_share(UPDATES, curve, smooth=1) == 20
    assert math.isnan(updates_to_share(UPDATES, clips(*[0.5] * 7)))


def test_convergence_has_an_interval():
    curves = [clips(0.1, 0.2, 0.4, 0.6, 0.8, 0.8, 0.8), clips(0.1, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8)]
    found = convergence(UPDATES, curves, torch.Generator().manual_seed(0), draws=50)
    each = [updates_to_share(UPDATES, curve) for curve in curves]
    assert found["updates"] == pytest.approx(sum(each) / 2)
    assert min(each) <= found["low"] <= found["updates"] <= found["high"] <= max(each) + 10


def row(seed: int, clean: float, **more) -> dict:
    common = {"model": "ti2v_teacher", "arm": "ti2v", "steps": 4, "captions": "open", "seed": seed}
    return (
        common | {"clean_rate": clean, "clean_rate_low": clean - 0.1, "clean_rate_high": clean + 0.1} | more
    )


def test_rows_are_averaged_over_seeds():
    (merged,) = mean_rows([row(0, 0.5), row(1, 0.7)])
    assert merged["seeds"] == 2
    assert cell(merged, "clean_rate") == "0.600 (0.500 to 0.700)"
    assert cell(merged, "coverage") == "-"
    assert cell({**merged, "arm": "t2v", "first_frame_psnr_db": 9.0}, "first_frame_psnr_db") == "-"


def test_the_report(tmp_path):
    for seed in (0, 1):
        rows = tmp_path / f"seed{seed}" / "rows"
        rows.mkdir(parents=True)
        (rows / "ti2v_teacher.4.open.json").write_text(json.dumps(row(seed, 0.5)))
        (rows / "ti2v_cfg.json").write_text(
            json.dumps({"model": "ti2v_cfg", "seed": seed, "cfg_rel_error_max": 0.1})
        )
        lines = [{"update": u, "clean": [0, 1, 1]} for u in (0, 10, 10, 20)]
        text = "".join(json.dumps(line) + "\n" for line in lines) + '{"update": 30, "cl'
        (rows.parent / "ti2v_4step.curve.jsonl").write_text(text)
    updates, curves = read_curves(tmp_path)["ti2v_4step"]
    assert updates.tolist() == [0, 10, 20]
    assert [c.shape for c in curves] == [(3, 3), (3, 3)]
    text = write_report(tmp_path).read_text()
    assert "| ti2v_teacher | 4 | 2 | - | 0.500 (0.400 to 0.600) |" in text
    assert "no gain" in text
    assert (tmp_path / "curves.svg").stat().st_size > 1000
