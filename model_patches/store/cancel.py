"""Hear a cancel wherever the work is: loops that may take long ask between two items.

Who runs the work says how to ask, once; so nothing below knows the host, and nothing has to pass the question on.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
"""Called with how much of how much is done; may raise to stop."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def _never() -> None:
    """Say that nobody has canceled."""


_ask: Callable[[], None] = _never


def listen_with(ask: Callable[[], None]) -> None:
    """Ask with this function from now on; it raises when the run was canceled."""
    global _ask
    _ask = ask


def stop_if_canceled() -> None:
    """Raise when the run was canceled."""
    _ask()


def until_canceled(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on; raise between two of them when the run was canceled."""
    for item in items:
        stop_if_canceled()
        yield item


def result_of(future: Future[Item]) -> Item:
    """Wait for a thread's result; raise when the run was canceled meanwhile."""
    while not future.done():
        wait([future], timeout=0.1)
        stop_if_canceled()
    return future.result()


def import_until_canceled(*modules: str) -> None:
    """Import libraries that take seconds; after a cancel their import goes on by itself, for the next run."""
    pool = ThreadPoolExecutor(1)
    try:
        for module in modules:
            result_of(pool.submit(import_module, module))
    finally:
        pool.shutdown(wait=False)


@contextmanager
def unheard() -> Iterator[None]:
    """Hear no cancel in the work inside, which looks for one itself."""
    with _asking(_never):
        yield


@contextmanager
def for_seconds(seconds: float) -> Iterator[None]:
    """Hear no cancel in the work inside, and let it go on for so long and no longer.

    Raises:
        TimeoutError: it takes longer.
    """
    end = time.monotonic() + seconds

    def ask() -> None:
        if time.monotonic() > end:
            raise TimeoutError(f"not done after {seconds:g} seconds")

    with _asking(ask):
        yield


@contextmanager
def finished_within(seconds: float) -> Iterator[None]:
    """Put a cancel off: work that ends within so many seconds of it is not lost, and longer work stops then."""
    heard: list[tuple[float, BaseException]] = []
    before = _ask

    def ask() -> None:
        try:
            before()
        except BaseException as error:
            heard.append((time.monotonic() + seconds, error))
        if heard and time.monotonic() > heard[0][0]:
            raise heard[0][1]

    with _asking(ask):
        yield
    if heard:
        raise heard[0][1]


@contextmanager
def _asking(ask: Callable[[], None]) -> Iterator[None]:
    before = _ask
    listen_with(ask)
    try:
        yield
    finally:
        listen_with(before)
