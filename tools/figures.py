"""The measured figures: ``tests/bench/figures/*.json``, and the tables of README and docs that are made from them.

``python3 dev.py remake figures`` rewrites the tables; ``--check`` only says what is stale. After a benchmark,
``--take BENCH FILE`` first enters the figures that it wrote to FILE. Every run in these files names its command, its
date and the SHA-256 of the weights that it measured; a test fails when those are no longer the ones in the tree.
"""

import argparse
import datetime
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .figure_tables import BLOCKS, block_text

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "tests" / "bench" / "figures"
MODELS = "embedded/models"
TEXT = f"{MODELS}/text_encoders"
CLIP, LLAVA = (f"{TEXT}/magic141_shapes_{name}/model.safetensors" for name in ("clip", "llava"))
VAE = f"{MODELS}/vae/magic141_shapes_vae.safetensors"
TI2V, T2V = (f"{MODELS}/diffusion_models/magic141_shapes_{name}.safetensors" for name in ("ti2v", "t2v"))
FOUR_STEPS, TWO_STEPS = (f"{MODELS}/loras/magic141_shapes_ti2v_{n}step.safetensors" for n in (4, 2))
WEIGHTS = {
    "anygraph": (TI2V, FOUR_STEPS, VAE, CLIP, LLAVA),
    "demo": (TI2V, T2V, FOUR_STEPS, VAE, CLIP, LLAVA),
    "distill": (TI2V, FOUR_STEPS, TWO_STEPS, VAE, CLIP, LLAVA),
    "dit": (),
    "faults": (TI2V, FOUR_STEPS, VAE, CLIP, LLAVA),
    "fullsize": (),
    "hosts": (),
    "int8": (TI2V, FOUR_STEPS, VAE, CLIP, LLAVA),
    "judge": (),
    "mutants": (),
    "pack": (),
    "retrieval": (CLIP,),
    "window": (TI2V, FOUR_STEPS, VAE, CLIP, LLAVA),
}
"""The shipped files that each benchmark measures; none where the weights are random or nothing is generated."""


def read_runs(bench: str) -> list[dict]:
    """Return the recorded runs of a benchmark: command, date, weights and figures of each."""
    path = FIGURES / f"{bench}.json"
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []


def read_figures() -> dict[str, dict[str, float]]:
    """Return the value of every figure by benchmark and name."""
    return {
        bench: {name: value for run in read_runs(bench) for name, value in run["figures"].items()}
        for bench in WEIGHTS
    }


def hash_file(path: Path) -> str:
    """Return a file's SHA-256, or a note that it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no such file"


def other_weights(root: Path = ROOT) -> list[str]:
    """Return every run that was measured on weights other than those in the tree, with the file that differs."""
    return [
        f"{bench}.json, {run['date']}, {', '.join(run['figures'])}: {file} has changed since; measure again"
        for bench in WEIGHTS
        for run in read_runs(bench)
        for file, digest in run["weights"].items()
        if hash_file(root / file) != digest
    ]


def take(bench: str, file: Path) -> None:
    """Enter the numbers that a benchmark wrote, in place of older ones of the same names.

    Raises:
        ValueError: the weights changed after the benchmark wrote the file.
    """
    weights = [ROOT / name for name in WEIGHTS[bench]]
    if newer := [path.name for path in weights if path.stat().st_mtime > file.stat().st_mtime]:
        raise ValueError(
            f"{file} is older than {', '.join(newer)}, so it may be of other weights. "
            f"Run `python3 dev.py bench {bench} --json {file}` again."
        )
    written = json.loads(file.read_text(encoding="utf-8"))
    figures = {name: value for name, value in written.items() if isinstance(value, int | float)}
    new = {
        "command": f"python3 dev.py bench {bench} --json FILE",
        "date": datetime.date.fromtimestamp(file.stat().st_mtime).isoformat(),
        "weights": {name: hash_file(ROOT / name) for name in WEIGHTS[bench]},
        "figures": figures,
    }
    path = FIGURES / f"{bench}.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": []}
    path.write_text(json.dumps(with_run(recorded, new), indent=1) + "\n", encoding="utf-8", newline="\n")


def with_run(recorded: dict, new: dict) -> dict:
    """Return a file's content with one more run; its figures are removed from older runs and the waiting list."""
    measured = new["figures"]
    older = [
        run | {"figures": {name: value for name, value in run["figures"].items() if name not in measured}}
        for run in recorded["runs"]
    ]
    runs = [*(run for run in older if run["figures"]), new]
    waiting = [name for name in recorded.get("being_measured_again", []) if name not in measured]
    return {"runs": runs} | ({"being_measured_again": waiting} if waiting else {})


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every page with a table of figures: where it is, and its text as it should be."""
    figures = read_figures()
    for name in dict.fromkeys(block.page for block in BLOCKS):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        for block in BLOCKS:
            if block.page == name:
                before, begin, rest = text.partition(block.begin)
                _, end, after = rest.partition(block.end)
                assert end, f"{name} lacks {block.begin} or, behind it, {block.end}"
                text = f"{before}{begin}\n{block_text(block, figures)}\n{end}{after}"
        yield path, text


def problems() -> list[str]:
    """Return what is wrong: pages that differ from the figures, and figures of other weights."""
    stale = [path for path, text in pages() if path.read_text(encoding="utf-8") != text]
    found = [f"{path.relative_to(ROOT).as_posix()} is stale: run dev.py remake figures" for path in stale]
    return found + other_weights()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="dev.py remake figures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is stale")
    parser.add_argument("--take", nargs=2, metavar=("BENCH", "FILE"), help="first enter a benchmark's JSON")
    options = parser.parse_args()
    if options.take:
        bench, file = options.take
        if bench not in WEIGHTS:
            parser.error(f"there is no benchmark {bench!r}; there are {', '.join(WEIGHTS)}")
        take(bench, Path(file))
    if not options.check:
        for path, text in list(pages()):
            path.write_text(text, encoding="utf-8", newline="\n")
    found = problems()
    print("\n".join(found) or "All figures are current.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
