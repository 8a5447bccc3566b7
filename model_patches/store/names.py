"""One set of rules for every name that a person types and that becomes a file or a folder on any system."""

import re

MAX_BYTES = 200
"""Of a name in UTF-8: file systems take 255, and endings such as ``-1a2b3c4d.part.safetensors`` are added."""
FORBIDDEN = '<>:"/\\|?*'
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)


def name_fault(name: str, what: str) -> str | None:
    """Return what is wrong with a name, or None.

    Args:
        name: as typed.
        what: what the name is for, with its article: "an index".
    """
    if (reason := _reason(name)) is None:
        return None
    shown = ascii(name) if not name.isprintable() else f"'{name}'"
    return (
        f"{shown if len(shown) < 80 else shown[:76] + '...'} cannot be the name of {what}: {reason}. "
        "Use letters, digits, spaces, '-' and '_'."
    )


def path_fault(name: str, what: str) -> str | None:
    """Return what is wrong with a name that may lie in subfolders ("mine/small"), or None."""
    return next(filter(None, (name_fault(part, what) for part in name.split("/"))), None)


def _reason(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    if found := sorted(set(FORBIDDEN) & set(name)):
        return f"{' '.join(found)} cannot be in it"
    if not name.isprintable():  # lone surrogates, line breaks, controls and invisible marks
        return "it holds a character that cannot be printed"
    if (size := len(name.encode("utf-8"))) > MAX_BYTES:
        return f"it is {size} bytes long, {MAX_BYTES} at most are possible (most letters take 1 byte, Chinese ones 3)"
    if name.startswith("."):
        return "it begins with a dot"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a dot"
    if _RESERVED.fullmatch(name):
        return "Windows keeps this name for a device"
    return None
