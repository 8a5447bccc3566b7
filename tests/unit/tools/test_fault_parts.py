"""Parts and pieces of the bench of faults are put together into one table of figures."""

import json

from magic141.tests.bench.faults import ZEROS, put_together, together


def test_counts_add_up_and_of_times_the_longest_counts(tmp_path):
    file = tmp_path / "faults.parts.json"
    put_together(file, 141, {"kills 1/2": {"kills": 50.0}, "cancels 1/1": {"cancel_latency_max_s": 0.4}})
    put_together(file, 141, {"kills 2/2": {"kills": 50.0, "raw_errors": 1.0}})
    every = put_together(file, 141, {"disks 1/1": {"raw_errors": 2.0, "slowest_s": 0.2}})
    figures = together(141, every)
    assert (figures["kills"], figures["raw_errors"], figures["cancel_latency_max_s"]) == (100, 3, 0.4)
    assert all(name in figures for name in ZEROS), "what never happened is 0"
    assert json.loads(file.read_text())["parts"].keys() == {
        "kills 1/2",
        "kills 2/2",
        "cancels 1/1",
        "disks 1/1",
    }


def test_a_part_that_is_run_again_takes_the_place_of_the_older_one(tmp_path):
    file = tmp_path / "faults.parts.json"
    put_together(file, 141, {"kills 1/2": {"kills": 50.0}, "disks 1/1": {"disk_faults": 9.0}})
    assert put_together(file, 141, {"kills 1/2": {"kills": 51.0}})["kills 1/2"] == {"kills": 51.0}
    cut_otherwise = put_together(file, 141, {"kills 1/3": {"kills": 34.0}})
    assert cut_otherwise.keys() == {"disks 1/1", "kills 1/3"}
    assert put_together(file, 142, {"kills 1/3": {"kills": 1.0}}).keys() == {"kills 1/3"}, "another seed"
