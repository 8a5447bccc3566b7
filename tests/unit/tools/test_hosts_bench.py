"""How the bench of hosts counts: what passed, what failed, and a host only when every room ran."""

import pytest
from magic141.tests.bench.hosts import (
    ROOMS,
    checkout_of,
    counts_of,
    hosts_passed,
    state_of_repository,
    version_of,
)

FINE = {"passed": 3, "failed": 0, "skipped": 1}


def test_a_host_passes_when_every_room_ran_and_nothing_failed():
    whole = dict.fromkeys(ROOMS, FINE)
    part = dict.fromkeys(ROOMS[:-1], FINE)
    broken = whole | {ROOMS[0]: {"passed": 3, "failed": 1, "skipped": 0}}
    empty = whole | {ROOMS[0]: {"passed": 0, "failed": 0, "skipped": 0}}
    assert hosts_passed({"a": whole, "b": whole, "c": part, "d": broken, "e": empty}) == 2


def test_counts_are_read_off_the_report(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>',
        encoding="utf-8",
    )
    assert counts_of(report) == {"passed": 3, "failed": 3, "skipped": 3}
    assert counts_of(tmp_path / "none.xml")["failed"], "a run without a report failed"


def test_a_checkout_says_its_version(tmp_path):
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.33.0"\n', encoding="utf-8")
    assert version_of(checkout_of(str(tmp_path))) == "0.33.0"
    with pytest.raises(SystemExit, match=r"nowhere is no ComfyUI"):
        checkout_of(str(tmp_path / "nowhere"))


def test_the_state_of_the_repository_is_one_hash():
    assert len(state_of_repository()) == 40
    assert state_of_repository() == state_of_repository()
