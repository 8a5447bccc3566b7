"""The only package besides nodes that imports the host, and the versions of the host that it fits."""

import importlib
import logging
import re

OLDEST, NEWEST = "0.30.0", "0.33.0"
"""The pack needs the oldest. Every test has passed with both."""


def host_version() -> str:
    """Return the version of this ComfyUI, 0 for those that are too old to have one."""
    try:
        return importlib.import_module("comfyui_version").__version__
    except ModuleNotFoundError:
        return "0"


def can_load(module: str, package: str | None) -> bool:
    """Return whether this ComfyUI can load the nodes, and log one line if it is not a tested version.

    In tested versions the nodes are not imported here: if that fails, something else is wrong, and the error says what.

    Args:
        module: of the nodes, relative to ``package``.
    """
    version = host_version()
    if _numbers(version) < _numbers(OLDEST):
        logging.error(
            "Magic141 needs ComfyUI %s or newer; this is %s. Its nodes are not loaded. Update ComfyUI.",
            OLDEST,
            version,
        )
        return False
    if _numbers(version)[:2] <= _numbers(NEWEST)[:2]:
        return True
    try:
        importlib.import_module(module, package)
    except (ImportError, AttributeError) as error:
        logging.error(
            "Magic141 does not fit ComfyUI %s: %s. It was tested up to %s. Its nodes are not loaded. Update Magic141.",
            version,
            " ".join(str(error).split()),
            NEWEST,
        )
        return False
    logging.warning("Magic141 was tested with ComfyUI %s to %s; this is %s.", OLDEST, NEWEST, version)
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
