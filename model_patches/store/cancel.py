"""Stop the work when the artist cancels: loops that may take long call ``stop_if_canceled`` between two items.

The bridge sets the function that checks for a cancel once, so nothing here knows the host or passes a callback on.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from importlib import import_module
from typing import TypeVar

Item = TypeVar("Item")
Progress = Callable[[int, int], None]
"""Called with (done, total); may raise to stop."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def _do_nothing() -> None: ...


_check: Callable[[], None] = _do_nothing


def set_cancel_check(check: Callable[[], None]) -> None:
    """Check for a cancel with this function from now on; it raises when the run was canceled."""
    global _check
    _check = check


def stop_if_canceled() -> None:
    """Raise when the run was canceled."""
    _check()


def until_canceled(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; raise between two of them when the run was canceled."""
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
    """Import libraries that take seconds; after a cancel the import goes on in its thread, for the next run."""
    pool = ThreadPoolExecutor(1)
    try:
        for module in modules:
            result_of(pool.submit(import_module, module))
    finally:
        pool.shutdown(wait=False)


@contextmanager
def ignoring_cancel() -> Iterator[None]:
    """Let ``stop_if_canceled`` do nothing inside the block, which checks for a cancel itself."""
    with _checking_with(_do_nothing):
        yield


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ignore a cancel inside the block, and stop the block after so many seconds instead.

    Raises:
        TimeoutError: it takes longer.
    """
    end = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > end:
            raise TimeoutError(f"not done after {seconds:g} seconds")

    with _checking_with(check):
        yield


@contextmanager
def delaying_cancel(seconds: float) -> Iterator[None]:
    """Delay a cancel until the block ends, by so many seconds at most: work that is nearly done is not lost."""
    cancels: list[tuple[float, BaseException]] = []
    before = _check

    def check() -> None:
        try:
            before()
        except BaseException as error:
            cancels.append((time.monotonic() + seconds, error))
        if cancels and time.monotonic() > cancels[0][0]:
            raise cancels[0][1]

    with _checking_with(check):
        yield
    if cancels:
        raise cancels[0][1]


@contextmanager
def _checking_with(check: Callable[[], None]) -> Iterator[None]:
    before = _check
    set_cancel_check(check)
    try:
        yield
    finally:
        set_cancel_check(before)
