"""Turn the errors of libraries that read files into sentences; they can be of any type."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn any error of a library that reads files into one message.

    Args:
        what: the files, as people know them; the message begins with it.

    Raises:
        ValueError: in place of the ``Exception``.
    """
    try:
        yield
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{what} could not be loaded: {reason}") from error
