"""Order the tests from quick to slow: unit, parity, server, browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("unit", "parity", "server", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent

    def room(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).parts[0]
        return ROOMS.index(name) if name in ROOMS else len(ROOMS)

    items.sort(key=room)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file grow beyond 64 kB, as a disk does that fills up while it is written to."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
