"""Damage files as disks, other programs and attackers do, from dice."""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    1e308,
    float("nan"),
    "",
    "../../outside/precious.txt",
    "/etc/passwd",
    "a" * 5000,
    "\ud83d",
    "nul\0l",
    [],
    {},
    [[]],
    {"a": {"b": []}},
)


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def flip_bits(path: Path, dice: random.Random) -> None:
    """Change one to eight bytes."""
    data = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 8)):
        if data:
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def flip_head(path: Path, dice: random.Random) -> None:
    """Change bytes near the beginning, where formats keep their sizes."""
    data = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 4)):
        if data:
            data[dice.randrange(min(len(data), 64))] = dice.randrange(256)
    path.write_bytes(data)


def cut(path: Path, dice: random.Random) -> None:
    """Cut it short."""
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data) + 1)])


def zero(path: Path, dice: random.Random) -> None:
    """Zero a piece, as a disk does after a power cut."""
    data = bytearray(path.read_bytes())
    start = dice.randrange(len(data) + 1)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def lengthen(path: Path, dice: random.Random) -> None:
    """Add what does not belong there."""
    path.write_bytes(path.read_bytes() + dice.randbytes(dice.randint(1, 5000)))


def garble(path: Path, dice: random.Random) -> None:
    """Put noise in its place."""
    path.write_bytes(dice.randbytes(dice.choice((0, 1, 8, 100, 5000))))


def change_json(path: Path, dice: random.Random) -> None:
    """Give one place of a JSON file, or of a safetensors header, another value; others are flipped."""
    data = path.read_bytes()
    start, end = (
        (8, 8 + int.from_bytes(data[:8], "little")) if path.suffix == ".safetensors" else (0, len(data))
    )
    try:
        value = json.loads(data[start:end])
    except ValueError:
        flip_bits(path, dice)
        return
    text = json.dumps(_with_a_change(value, dice)).encode()
    head = len(text).to_bytes(8, "little") if start else b""
    path.write_bytes(head + text + data[end:])


def _with_a_change(value: Any, dice: random.Random) -> Any:
    if dice.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return dice.choice(VALUES)
    key = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
    if dice.random() < 0.15:
        del value[key]
    else:
        value[key] = _with_a_change(value[key], dice)
    return value


def nest(path: Path, dice: random.Random) -> None:
    """Put JSON of great depth in its place."""
    depth = dice.choice((500, 5000, 200_000))
    path.write_text("[" * depth + "]" * depth)


def repeat_lines(path: Path, dice: random.Random) -> None:
    """Repeat a part of it."""
    data = path.read_bytes()
    start = dice.randrange(len(data) + 1)
    path.write_bytes(data + data[start : start + 500])


def to_folder(path: Path, dice: random.Random) -> None:
    """Put a folder there."""
    path.unlink()
    path.mkdir()


def to_pipe(path: Path, dice: random.Random) -> None:
    """Put a pipe there, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def to_loop(path: Path, dice: random.Random) -> None:
    """Put a link to itself there."""
    path.unlink()
    path.symlink_to(path.name)


def remove(path: Path, dice: random.Random) -> None:
    """Take it away."""
    path.unlink()


MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (
    flip_bits,
    flip_bits,
    flip_head,
    cut,
    zero,
    lengthen,
    garble,
    change_json,
    change_json,
    change_json,
    nest,
    repeat_lines,
    to_folder,
    to_pipe,
    to_loop,
    remove,
)


def link_out(path: Path, outside: Path) -> None:
    """Put a link to a file outside there."""
    path.unlink()
    path.symlink_to(outside)


def plant_pickle(path: Path, mark: Path) -> None:
    """Put a pickle there that leaves a mark when it is read."""
    path.write_bytes(pickle.dumps(Bomb(mark)))


def swap(path: Path, other: Path) -> None:
    """Put another file of the same folder there."""
    shutil.copyfile(other, path)
