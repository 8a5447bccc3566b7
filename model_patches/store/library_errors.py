"""Say in a sentence what a library raises about files that it cannot read: their kinds of errors are without number."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn any error of a library that reads files into a message.

    Args:
        what: the files, as people know them; the sentence begins with it.

    Raises:
        ValueError: in place of the ``Exception``.
    """
    try:
        yield
    except Exception as error:
        reason = str(error).strip() or type(error).__name__
        raise ValueError(f"{what} could not be loaded: {reason}") from error
