"""Does the experiment's jobs by writing files, so that what its processes did, and when, can be read afterwards.

``python -m magic141.tests.support.job_worker FOLDER`` shares one job that takes a minute.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from magic141.lab.experiment.jobs import Job, TeacherRows, share


@dataclass
class FileWorker:
    folder: Path

    def do(self, job: Job) -> None:
        """Write NAME.began (with the process), then NAME.done; one named fails, waits or dies does that in between.

        Raises:
            ValueError: the job is named fails, or is done before one that it needs.
        """
        (self.folder / f"{job.name}.began").write_text(str(os.getpid()))
        for need in job.needs:
            if not (self.folder / f"{need}.done").exists():
                raise ValueError(f"{job.name} was begun before {need} was done")
        if job.name == "fails":
            raise ValueError("loss is nan")
        if job.name == "dies":
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60 if job.name == "waits" else 0.2)
        (self.folder / f"{job.name}.done").touch()


def file_job(name: str, *needs: str) -> Job:
    return Job(name, TeacherRows("ti2v", 1), needs)


if __name__ == "__main__":
    share([file_job("waits")], partial(FileWorker, Path(sys.argv[1])), 2)
