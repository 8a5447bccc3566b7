"""Write captions in plain words: named ones state every factor, open ones leave one or two open among a few values."""

import torch
from torch import Tensor

from .scenes import BACKGROUNDS, COLOURS, DIRECTIONS, NUM_MOTIONS, PLACES, SHAPES, SIZES, SPEEDS, Scenes

_NAMES = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "size": tuple(SIZES),
    "background": tuple(BACKGROUNDS),
    "place": PLACES,
    "direction": tuple(DIRECTIONS),
    "speed": tuple(SPEEDS),
}
OPEN_DIRECTIONS = {  # word: allowed indices into DIRECTIONS
    "sideways": (0, 4),
    "vertically": (2, 6),
    "diagonally": (1, 3, 5, 7),
    "straight": (0, 2, 4, 6),
}
OPEN_COLOURS = {"warm": (0, 3, 4), "cool": (1, 2, 6), "pale": (5, 7)}
OPEN_PLACES = {"upper edge": (0, 1, 2), "middle": (3, 4, 5), "lower edge": (6, 7, 8)}


def _words(scenes: Scenes, index: int) -> dict[str, str]:
    return {name: names[int(getattr(scenes, name)[index])] for name, names in _NAMES.items()}


def _appearance(w: dict[str, str], second: str) -> str:
    return f"a {w['size']} {w['colour']} {w['shape']} on a {w['background']} background at the {w['place']}{second}"


def _sentence(w: dict[str, str], second: str) -> str:
    return f"{_appearance(w, '')} moves {w['direction']} {w['speed']}{second}"


def _second(scenes: Scenes, index: int) -> str:
    colour = int(scenes.second_colour[index])
    if colour < 0:
        return ""
    return f" past a tiny {_NAMES['colour'][colour]} {SHAPES[int(scenes.second_shape[index])]}"


def named_caption(scenes: Scenes) -> list[str]:
    """Write a caption that says every factor of every scene."""
    return [_sentence(_words(scenes, i), _second(scenes, i)) for i in range(len(scenes))]


def appearance_caption(scenes: Scenes) -> list[str]:
    """Write captions that say what the first frame shows and nothing about the motion."""
    return [_appearance(_words(scenes, i), _second(scenes, i)) for i in range(len(scenes))]


def _group_of(groups: dict[str, tuple[int, ...]], value: int, generator: torch.Generator) -> str:
    names = [name for name, members in groups.items() if value in members]
    return names[int(torch.randint(len(names), (1,), generator=generator))]


def open_caption(
    scenes: Scenes, *, generator: torch.Generator, appearance: bool = False
) -> tuple[list[str], Tensor]:
    """Write captions that leave the motion open, and with ``appearance`` colour and place too.

    The caption names only a group of two or four directions, but the speed. With ``appearance`` it also names only a
    group of two or three colours and places, which a first frame would show.

    Returns:
        The captions, and the allowed futures as a (B, 16) bool tensor over ``Scenes.motion``.
    """
    captions = []
    allowed = torch.zeros(len(scenes), NUM_MOTIONS, dtype=torch.bool)
    for i in range(len(scenes)):
        words = _words(scenes, i)
        group = _group_of(OPEN_DIRECTIONS, int(scenes.direction[i]), generator)
        words["direction"] = group
        for direction in OPEN_DIRECTIONS[group]:
            allowed[i, direction * len(SPEEDS) + int(scenes.speed[i])] = True
        if appearance:
            words["colour"] = _group_of(OPEN_COLOURS, int(scenes.colour[i]), generator)
            words["place"] = _group_of(OPEN_PLACES, int(scenes.place[i]), generator)
        captions.append(_sentence(words, _second(scenes, i)))
    return captions, allowed
