"""Compute in threads beside the one that reads and writes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from .cancel import result_of

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield ``function(item)`` for each item, in order, while threads compute the next ones.

    Items are taken in the caller's thread.

    Args:
        ahead: how many items to take before waiting for the first result; so many are in memory.
    Raises:
        Exception: what the function raised, or that the run was canceled; items not yet started are dropped.
    """
    pool = ThreadPoolExecutor(threads)
    futures: deque[Future[Result]] = deque()
    try:
        for item in items:
            futures.append(pool.submit(function, item))
            if len(futures) > ahead:
                yield result_of(futures.popleft())
        while futures:
            yield result_of(futures.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # nobody needs what a canceled run computes ahead
