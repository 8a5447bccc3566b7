"""A cancel stops long work between two items, is delayed where work would be lost, and is never forgotten."""

import hashlib
import sys

import pytest
from magic141.model_patches.store import cancel
from magic141.model_patches.store.files import HASH_CHUNK_BYTES, file_sha256


class Canceled(BaseException):
    """What a host raises."""


class Host:
    """Raises at the nth question, and at every one after it."""

    def __init__(self, *, at: int) -> None:
        self.at, self.asked = at, 0

    def __call__(self) -> None:
        self.asked += 1
        if self.asked >= self.at:
            raise Canceled


@pytest.fixture
def host():
    """Give a function that lets a host of its own be asked."""
    before = cancel._check

    def listen(at: int) -> Host:
        asked = Host(at=at)
        cancel.set_cancel_check(asked)
        return asked

    yield listen
    cancel.set_cancel_check(before)


def test_items_come_until_the_cancel(host):
    host(3)
    items = cancel.until_canceled(range(9))
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(Canceled):
        next(items)


def test_hashing_can_be_stopped(tmp_path, host):
    path = tmp_path / "a"
    path.write_bytes(bytes(HASH_CHUNK_BYTES + 1))
    asked = host(99)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert asked.asked == 2
    host(2)
    with pytest.raises(Canceled):
        file_sha256(path)


def test_a_library_is_imported_and_a_cancel_heard_meanwhile(host, tmp_path, monkeypatch):
    (tmp_path / "slow_library.py").write_text("import time\ntime.sleep(1)\nloaded = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    host(2)
    with pytest.raises(Canceled):
        cancel.import_until_canceled("slow_library")
    host(99)
    cancel.import_until_canceled("slow_library")
    assert sys.modules["slow_library"].loaded


def test_work_that_looks_for_a_cancel_itself_is_left_alone(host):
    asked = host(1)
    with cancel.ignoring_cancel():
        cancel.stop_if_canceled()
    assert asked.asked == 0
    with pytest.raises(Canceled):
        cancel.stop_if_canceled()


def test_after_a_cancel_work_may_go_on_for_a_while(host):
    host(1)
    with cancel.time_limit(60):
        cancel.stop_if_canceled()
    with pytest.raises(TimeoutError, match="not done after"), cancel.time_limit(-1):
        cancel.stop_if_canceled()
    with pytest.raises(Canceled):
        cancel.stop_if_canceled()


def test_work_that_ends_soon_after_a_cancel_is_finished_first(host):
    host(1)
    done = []
    with pytest.raises(Canceled), cancel.delaying_cancel(60):
        done.extend(cancel.until_canceled(range(3)))
    assert done == [0, 1, 2]
    with pytest.raises(Canceled), cancel.delaying_cancel(-1):
        done.extend(cancel.until_canceled(range(3)))
    assert done == [0, 1, 2], "longer work stops"


def test_without_a_cancel_nothing_is_put_off(host):
    host(99)
    with cancel.delaying_cancel(0):
        assert list(cancel.until_canceled(range(3))) == [0, 1, 2]
