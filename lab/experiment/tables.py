"""The experiment's results as tables (Markdown) and plots, from the rows and curves it left."""

import json
import math
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from .students import CURVE

SHARE = 0.9


def updates_to_share(updates: Tensor, clean: Tensor, *, smooth: int = 3) -> float:
    """Return the first update at which a curve has reached ``SHARE`` of its final gain; NaN if it gained nothing.

    Args:
        updates: (P,) ascending from 0, which is the teacher at the student's number of steps.
        clean: (P, N) 0 or 1: each clip at each update.
        smooth: points averaged for the final height, and for each point but the first.
    """
    heights = clean.double().mean(1)
    start, final = heights[0], heights[-smooth:].mean()
    if final <= start:
        return math.nan
    running = torch.stack([heights[max(1, i - smooth + 1) : i + 1].mean() for i in range(1, len(heights))])
    reached = (running >= start + SHARE * (final - start)).nonzero()
    return float(updates[1:][reached[0, 0]]) if len(reached) else math.nan


def convergence(
    updates: Tensor, curves: list[Tensor], generator: torch.Generator, *, draws: int = 500
) -> dict[str, float]:
    """Return the mean over seeds of ``updates_to_share``, with a 95 % interval that resamples seeds and clips.

    Args:
        curves: a (P, N) tensor a seed.
    """
    values = torch.tensor([updates_to_share(updates, curve) for curve in curves])
    resampled = []
    for _ in range(draws):
        seeds = torch.randint(len(curves), (len(curves),), generator=generator).tolist()
        one = [
            updates_to_share(
                updates,
                curves[s][:, torch.randint(curves[s].shape[1], (curves[s].shape[1],), generator=generator)],
            )
            for s in seeds
        ]
        resampled.append(torch.tensor(one).nanmean())
    stacked = torch.stack(resampled)
    ends = torch.nanquantile(stacked.double(), torch.tensor([0.025, 0.975], dtype=torch.float64))
    return {"updates": values.nanmean().item(), "low": ends[0].item(), "high": ends[1].item()}


COLUMNS = {
    "motion_accuracy": "motion",
    "clean_rate": "clean",
    "ghost_share": "ghosts",
    "sharpness": "sharpness",
    "trajectory_error_px": "track error px",
    "coverage": "coverage",
    "first_frame_psnr_db": "first frame dB",
    "temporal_flickering": "flickering",
    "tiny_frechet": "tiny-Frechet",
}
NO_FIRST_FRAME = {"t2v": ("first_frame_psnr_db",)}


def read_rows(folder: Path) -> list[dict]:
    """Return all rows of all seeds."""
    return [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("seed*/rows/*.*.*.json"))
    ]


def mean_rows(rows: list[dict]) -> list[dict]:
    """Return a row for each (model, steps, captions), averaged over seeds; the ends of intervals are averaged, too."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["model"], row["steps"], row["captions"]].append(row)
    merged = []
    for group in groups.values():
        numbers = {k for row in group for k, v in row.items() if isinstance(v, float)}
        means = {k: sum(r[k] for r in group if k in r) / sum(k in r for r in group) for k in numbers}
        merged.append({**group[0], **means, "seeds": len(group)})
    return sorted(
        merged, key=lambda r: (r["arm"], r["captions"], not r["model"].endswith("_teacher"), r["steps"])
    )


def table(rows: list[dict]) -> str:
    """Return a Markdown table of rows."""
    header = ["model", "steps", "seeds", *COLUMNS.values()]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [row["model"], str(row["steps"]), str(row["seeds"])]
        cells += [cell(row, name) for name in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: dict, name: str) -> str:
    """Return a measure with its interval; a dash where it means nothing."""
    if name not in row or name in NO_FIRST_FRAME.get(row["arm"], ()):
        return "-"
    text = f"{row[name]:.3f}"
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return text if low is None else f"{text} ({low:.3f} to {high:.3f})"


def read_curves(folder: Path) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """Return for every student its updates (P,) and a (P, N) tensor of clean clips a seed."""
    curves = {}
    for name in sorted({path.name.removesuffix(CURVE) for path in folder.glob(f"seed*/*{CURVE}")}):
        seeds = [_read_curve(path) for path in sorted(folder.glob(f"seed*/{name}{CURVE}"))]
        common = sorted(set.intersection(*(set(seed) for seed in seeds)))
        clean = [torch.tensor([seed[update] for update in common]) for seed in seeds]
        curves[name] = (torch.tensor(common), clean)
    return curves


def _read_curve(path: Path) -> dict[int, list[int]]:
    """Return update -> clean clips; of an update that was done twice, the last."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {line["update"]: line["clean"] for line in map(json.loads, lines)}


def convergence_table(curves: dict[str, tuple[Tensor, list[Tensor]]]) -> str:
    """Return each student's updates to 90 % of its own final gain, as Markdown."""
    lines = ["| student | updates to 90 % of its gain | from | to |", "| --- | --- | --- | --- |"]
    for name, (updates, clean) in curves.items():
        if len(updates) < 3:
            continue
        found = convergence(updates, clean, torch.Generator().manual_seed(0))
        heights = torch.stack([c.double().mean(1) for c in clean]).mean(0)
        number = (
            "no gain"
            if math.isnan(found["updates"])
            else f"{found['updates']:.0f} ({found['low']:.0f} to {found['high']:.0f})"
        )
        lines.append(f"| {name} | {number} | {heights[0]:.3f} | {heights[-3:].mean():.3f} |")
    return "\n".join(lines)


def plot_curves(curves: dict[str, tuple[Tensor, list[Tensor]]], path: Path) -> None:
    """Draw clean rate against updates of the student: the paper's Fig. 5."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, (updates, clean) in curves.items():
        heights = torch.stack([c.double().mean(1) for c in clean]).mean(0)
        axes.plot(updates, heights, marker=".", label=name)
    axes.set(xlabel="generator updates", ylabel="clean clips (ti2v: open, t2v: named)", ylim=(0, 1))
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def guidance_table(folder: Path) -> str:
    """Return the relative error of the guidance-distilled students, a line a seed."""
    rows = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("seed*/rows/*_cfg.json"))]
    names = [name for name, value in (rows[0] if rows else {}).items() if isinstance(value, float)]
    lines = ["| seed | " + " | ".join(names) + " |", "|" + " --- |" * (len(names) + 1)]
    lines += [f"| {row['seed']} | " + " | ".join(f"{row[n]:.3f}" for n in names) + " |" for row in rows]
    return "\n".join(lines) if rows else "Not measured."


def write_report(folder: Path) -> Path:
    """Write ``report.md`` and ``curves.svg`` into the experiment's folder."""
    rows, curves = mean_rows(read_rows(folder)), read_curves(folder)
    parts = []
    for arm in ("ti2v", "t2v"):
        for captions in ("open", "named"):
            chosen = [row for row in rows if row["arm"] == arm and row["captions"] == captions]
            if chosen:
                parts.append(f"## {arm}, {captions} captions\n\n{table(chosen)}")
    parts.append(f"## Updates to 90 % of the gain\n\n{convergence_table(curves)}\n\n![curves](curves.svg)")
    parts.append(f"## Guidance distillation, relative error\n\n{guidance_table(folder)}")
    plot_curves(curves, folder / "curves.svg")
    report = folder / "report.md"
    report.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {report}", flush=True)
    return report
