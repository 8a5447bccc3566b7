"""Order the tests from quick to slow: unit, parity, server, browser."""

from pathlib import Path

import pytest

ROOMS = ("unit", "parity", "server", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent

    def room(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).parts[0]
        return ROOMS.index(name) if name in ROOMS else len(ROOMS)

    items.sort(key=room)
