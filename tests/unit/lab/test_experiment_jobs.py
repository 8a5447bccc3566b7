"""The experiment's jobs shared among real processes: in order, past failures, and ended with the one that shares."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from magic141.lab.experiment.jobs import TeacherRows, jobs_of, share
from magic141.lab.experiment.plan import PLANS
from magic141.tests.support.job_worker import FileWorker, file_job

ROOT = Path(__file__).resolve().parents[3]


def done_in(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.done")}


def processes_of(folder: Path) -> set[str]:
    return {file.read_text() for file in folder.glob("*.began")}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_job_of_a_plan_comes_after_what_it_needs(plan):
    jobs = jobs_of(plan)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for place, job in enumerate(jobs):
        assert set(job.needs) <= set(names[:place])
    rows = [(job.work.arm, job.work.steps) for job in jobs if isinstance(job.work, TeacherRows)]
    assert sorted(rows) == sorted((arm, steps) for arm in ("ti2v", "t2v") for steps in plan.euler_steps)


def test_a_student_needs_the_ones_it_goes_on_from_if_the_plan_has_them():
    needs = {job.name: set(job.needs) for job in jobs_of(PLANS["subset"])}
    assert needs["ti2v_4step"] == {"ti2v_4step_ode"}
    assert needs["no_normaliser"] == {"ti2v_2step_ode", "ti2v_2step_warm_up"}
    assert needs["ti2v_4step_ode"] == needs["ti2v_teacher, 28 steps"] == set()
    alone = jobs_of(PLANS["subset"].only(["no_normaliser"]))
    assert [(job.name, job.needs) for job in alone] == [("no_normaliser", ())]


def test_two_processes_share_the_jobs_and_keep_their_order(tmp_path):
    jobs = [file_job("a"), file_job("b", "a"), file_job("c", "b"), file_job("d"), file_job("e", "d", "a")]
    share(jobs, partial(FileWorker, tmp_path), 2)
    assert done_in(tmp_path) == {"a", "b", "c", "d", "e"}
    workers = processes_of(tmp_path)
    assert len(workers) == 2
    assert str(os.getpid()) not in workers


def test_a_failed_job_ends_only_those_that_need_it(tmp_path):
    jobs = [
        file_job("fails"),
        file_job("next", "fails"),
        file_job("last", "next"),
        file_job("a"),
        file_job("b"),
    ]
    with pytest.raises(
        RuntimeError, match=r"Failed: fails\. Not done, .*: next, last\. The rest is kept"
    ) as info:
        share(jobs, partial(FileWorker, tmp_path), 2)
    assert str(info.value.__cause__) == "loss is nan"
    assert done_in(tmp_path) == {"a", "b"}
    assert not (tmp_path / "next.began").exists()


def test_a_killed_process_is_told_from_a_failed_job(tmp_path):
    with pytest.raises(
        RuntimeError, match=r"at work on (dies, waits|waits, dies) was killed, .* fewer --processes"
    ):
        share([file_job("waits"), file_job("dies")], partial(FileWorker, tmp_path), 2)


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads which processes run from /proc")
def test_a_job_ends_with_the_process_that_shares_it(tmp_path):
    command = [sys.executable, "-P", "-m", "magic141.tests.support.job_worker", str(tmp_path)]
    shares = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "tests" / "shim")})
    began = tmp_path / "waits.began"
    wait_until(lambda: began.exists() and began.read_text())
    shares.kill()
    shares.wait()
    worker = Path("/proc") / began.read_text() / "cmdline"
    wait_until(lambda: not worker.exists() or not worker.read_bytes())
    assert not done_in(tmp_path)


def wait_until(holds, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not come to be in time"
        time.sleep(0.05)
