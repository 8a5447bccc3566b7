"""Seconds and memory of quantizing a large file, beside `cp` of the same file, both from a cold cache."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from magic141.model_patches.int8.file import quantize_file
from magic141.model_patches.int8.quantize import QuantizationPlan, quantize_layer
from magic141.tests.support.int8_shapes import write_random_dit

PLAN = QuantizationPlan()
SIZES, QUICK_SIZES = (
    {"hidden_size": 3072, "depth": 3, "depth_single": 6},
    {"hidden_size": 512, "depth": 1, "depth_single": 2},
)
PARTS = 2
CLEAR_REFS = Path("/proc/self/clear_refs")


def measure_disk(folder: Path, *, quick: bool) -> dict[str, float]:
    """Quantize a model in parts in a process of its own, after a copy of the same files."""
    first = write_random_dit(folder / "big.safetensors", parts=PARTS, **(QUICK_SIZES if quick else SIZES))
    files = sorted(folder.glob("big-*.safetensors"))
    try:
        forget_cached(files)
        start = time.perf_counter()
        copies = [file.with_suffix(".copy") for file in files]
        for file, copy in zip(files, copies, strict=True):
            subprocess.run(["cp", str(file), str(copy)], check=True)
        copy_seconds = time.perf_counter() - start
        for copy in copies:
            copy.unlink()
        forget_cached(files)
        command = [sys.executable, "-m", __spec__.name, str(first)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    finally:
        for file in files:
            file.unlink()
    figures = json.loads(said.splitlines()[-1])
    return figures | {
        "stream_copy_seconds": copy_seconds,
        "quantize_over_copy_time": figures["stream_seconds"] / copy_seconds,
        "stream_mb_per_s": 1000 * figures["stream_file_gb"] / figures["stream_seconds"],
    }


def forget_cached(files: list[Path]) -> None:
    """Have the system drop what it holds of files, where it can be asked."""
    for path in files:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def quantize_in_this_process(source: Path) -> dict[str, float]:
    """Return seconds, and peak memory over what the process holds before."""
    quantize_layer(torch.randn(1024, 1024), PLAN, name="warm-up")
    before = forget_peak()
    start = time.perf_counter()
    target = source.with_name("int8.safetensors")
    report = quantize_file(source, target, PLAN)
    seconds = time.perf_counter() - start
    target.unlink()
    return {
        "stream_peak_extra_mb": (peak_bytes() - before) / 1e6,
        "stream_file_gb": report.bytes_before / 1e9,
        "stream_seconds": seconds,
    }


def forget_peak() -> int:
    """Return the resident bytes, and where the system allows it start the peak from there."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5")
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """Return the peak of resident bytes of this process alone (``ru_maxrss`` starts at the parent's)."""
    if CLEAR_REFS.exists():
        line = next(
            line for line in CLEAR_REFS.with_name("status").read_text().splitlines() if "VmHWM" in line
        )
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(quantize_in_this_process(Path(sys.argv[1]))))
