"""The experiment as jobs, shared among processes: two processes do more than one with twice the threads."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from multiprocessing.synchronize import Barrier
from typing import Protocol

import torch

from .plan import Plan
from .students import ARMS, Student


@dataclass(frozen=True)
class TeacherRows:
    """The teacher of an arm, judged at one number of steps."""

    arm: str
    steps: int


@dataclass(frozen=True)
class Job:
    """A student to train and to judge, or a teacher to judge, once the jobs named in ``needs`` are done."""

    name: str
    work: Student | TeacherRows
    needs: tuple[str, ...] = ()


class Worker(Protocol):
    """Does jobs in a process of its own; it saves its results and does nothing twice."""

    def do(self, job: Job) -> None: ...


def jobs_of(plan: Plan) -> list[Job]:
    """Return the plan's jobs: students in its order, then teachers, most steps first so that none is left alone."""
    names = [student.name for student in plan.students]
    jobs = [Job(s.name, s, tuple(n for n in (s.start, s.after) if n in names)) for s in plan.students]
    for steps in sorted(plan.euler_steps, reverse=True):
        jobs += [Job(f"{arm}_teacher, {steps} steps", TeacherRows(arm, steps)) for arm in ARMS]
    return jobs


def share(jobs: Sequence[Job], make_worker: Callable[[], Worker], processes: int) -> None:
    """Do the jobs in so many processes, each with its share of the cores; the first ready job goes first.

    If a job fails, only the jobs that need it are not done.

    Args:
        make_worker: makes the worker of one process; it is pickled.

    Raises:
        RuntimeError: jobs failed, with their names, the first one's error as its cause; or a process was killed.
    """
    waiting, done, running, failed = list(jobs), set[str](), dict[Future, tuple[Job, float]](), {}
    threads = max(1, (os.cpu_count() or 1) // processes)
    # a server that forks imports once for all; nothing has begun to compute in it
    context = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    begin = make_worker, threads, context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _begin, begin) as pool:
        for begun in [pool.submit(os.getpid) for _ in range(processes)]:
            begun.result()  # all are there: the death of one that is still starting might be noticed late
        while waiting or running:
            while len(running) < processes and (
                job := next((j for j in waiting if done >= {*j.needs}), None)
            ):
                waiting.remove(job)
                running[pool.submit(_do, job)] = job, time.monotonic()
            if not running:
                break  # what waits needs what failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, began = running.pop(future)
                minutes = (time.monotonic() - began) / 60
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise _killed([job, *(j for j, _ in running.values())]) from error
                if error:
                    failed[job.name] = error
                    print(f"{job.name}: failed after {minutes:.1f} min: {error}", flush=True)
                else:
                    done.add(job.name)
                    print(f"{job.name}: done in {minutes:.1f} min", flush=True)
    if failed:
        undone = f" Not done, since they need these: {', '.join(j.name for j in waiting)}." if waiting else ""
        raise RuntimeError(
            f"Failed: {', '.join(failed)}.{undone} The rest is kept; fix the cause and run the same command again."
        ) from next(iter(failed.values()))


def _killed(at_work: Sequence[Job]) -> RuntimeError:
    return RuntimeError(
        f"A process at work on {', '.join(job.name for job in at_work)} was killed, perhaps for lack of memory "
        "(each takes 2 to 3 GB). What is done is kept; run the same command again, with fewer --processes."
    )


_worker: Worker


def _begin(make_worker: Callable[[], Worker], threads: int, all_there: Barrier) -> None:
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    _worker = make_worker()
    all_there.wait()


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise the parent's next run would do the same job beside it."""
    if parent := parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)


def _do(job: Job) -> None:
    _worker.do(job)
