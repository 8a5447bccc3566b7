"""Threads compute ahead of the one that takes their results: in order, not too far, and not after a failure."""

import threading

import pytest
from magic141.model_patches.store import cancel
from magic141.model_patches.store.threads import map_ahead

SECONDS = 10


def test_results_come_in_order_though_the_first_ends_last():
    ended = threading.Event()

    def square(number):
        if number:
            ended.set()
        else:
            assert ended.wait(SECONDS)
        return number * number, threading.get_ident()

    results, threads = zip(*map_ahead(square, range(20), threads=3, ahead=4), strict=True)
    assert results == tuple(number * number for number in range(20))
    assert threading.get_ident() not in threads


def test_items_are_taken_here_and_no_further_ahead_than_said():
    taken = []

    def items():
        for number in range(9):
            taken.append((number, threading.get_ident()))
            yield number

    results = map_ahead(str, items(), threads=2, ahead=3)
    assert next(results) == "0"
    assert taken == [(number, threading.get_ident()) for number in range(4)]
    assert [*results] == [str(number) for number in range(1, 9)]


def test_a_failure_comes_in_its_turn_and_ends_the_work():
    done = []

    def fail_at_two(number):
        if number == 2:
            raise ValueError("the third")
        done.append(number)
        return number

    results = map_ahead(fail_at_two, range(1000), threads=2, ahead=3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert max(done) < 6


def test_a_cancel_is_heard_while_a_thread_works(monkeypatch):
    class Canceled(BaseException):
        """What a host raises."""

    works, goes_on = threading.Event(), threading.Event()

    def work(_):
        works.set()
        assert goes_on.wait(SECONDS)

    def check():
        assert works.wait(SECONDS)
        goes_on.set()
        raise Canceled

    monkeypatch.setattr(cancel, "_check", check)
    with pytest.raises(Canceled):
        next(map_ahead(work, range(5), threads=1, ahead=2))
