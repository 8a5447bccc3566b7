"""Kill real servers while a node does long work, start them again on the same folders, and compare what comes out.

The six prompts are those that artists queue: with the embedded models, through the host's queue, caches and loaders.
"""

import contextlib
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magic141.tests.support.any_graph import any_graph_server, made_up_graph
from magic141.tests.support.distill_graphs import build, distill, node
from magic141.tests.support.tiny_dit import tiny_dit
from magic141.tests.support.tiny_encoders import write_clip_folder
from magic141.tests.support.tiny_videos import write_captioned
from magic141.tools.client import ComfyClient, Interrupted
from magic141.tools.demo import cut_long_videos
from magic141.tools.graph import workflow_to_prompt
from magic141.tools.server import ComfyServer, end_group
from magic141.tools.templates import template

from .faults_children import Outcome, say
from .faults_jobs import (
    Job,
    Place,
    checkpoints,
    index_rows,
    resumed_step,
    rows_kept,
    set_shards,
    shards,
    videos_of_runs,
    weights,
    windows_of_runs,
    write_pictures,
)
from .faults_kills import MAX_KILLS, Bench

NUM_PICTURES, NUM_VIDEOS, NUM_WINDOWS = 600, 12, 4
PATIENCE_S = 1200


@dataclass(frozen=True)
class ServerJob:
    """A prompt whose node ``key`` keeps work on disk, and what a job knows of such work."""

    key: str
    prompt: Callable[[dict], dict]
    job: Job


def kill_servers(bench: Bench, *, kills: int) -> None:
    """Kill a server in the middle of each of the jobs, some several times in a row, and let the next one end it."""
    if not kills:
        return
    with measured_servers(bench) as (servers, jobs):
        while bench.counts["server_kills"] < kills:
            for each in bench.dice.sample(jobs, len(jobs)):
                left = kills - bench.counts["server_kills"]
                servers.kill_and_finish(each, times=min(left, bench.dice.randint(1, MAX_KILLS)))
    say(f"kills of servers: {bench.counts['server_kills']}")


def cancel_in_server(bench: Bench, *, rounds: int) -> float:
    """Press Cancel in the middle of each of the jobs; return the longest time until a prompt had ended."""
    slowest = 0.0
    if rounds:
        with measured_servers(bench) as (servers, jobs):
            for each in jobs * rounds:
                slowest = max(slowest, servers.cancel(each))
    return slowest


@contextlib.contextmanager
def measured_servers(bench: Bench) -> Iterator[tuple["Servers", list["ServerJob"]]]:
    """Give servers on new folders, and the jobs, each of which was done there once."""
    with (
        tempfile.TemporaryDirectory(prefix="magic141-servers-", ignore_cleanup_errors=True) as folder,
        contextlib.ExitStack() as stack,
    ):
        write_inputs(Path(folder))
        servers, jobs = Servers(bench, Path(folder), stack), server_jobs()
        for each in jobs:
            servers.measure(each)
        yield servers, jobs


class Servers:
    """One server after the other on the same folders."""

    def __init__(self, bench: Bench, base: Path, stack: contextlib.ExitStack) -> None:
        self.bench, self.base, self.stack = bench, base, stack
        self.place = Place(base, base)
        self.server: ComfyServer | None = None
        self.info: dict = {}

    def running(self) -> ComfyServer:
        """Return the server that runs, starting one if there is none."""
        if self.server is None:
            self.server = self.stack.enter_context(any_graph_server(self.base))
            self.info = self.info or ComfyClient(self.server.url).object_info()
        return self.server

    def measure(self, each: ServerJob) -> None:
        """Run a job undisturbed; keep what it made, and how long its node took."""
        outcome, seconds = self.run(each)
        if outcome.kind != "fine":
            raise RuntimeError(f"{each.job.name} fails undisturbed in a server: {outcome.text}")
        self.bench.seconds[each.job.name] = seconds
        self.bench.wanted[each.job.name] = self.bench.result(each.job, self.place)
        assert self.bench.wanted[each.job.name], f"nothing that {each.job.name} made was found"
        self.clear(each)

    def kill_and_finish(self, each: ServerJob, *, times: int) -> None:
        """Kill the server so many times in a job, then let the job end in the next."""
        if not times:
            return
        job, bench = each.job, self.bench
        moments = [bench.dice.uniform(0.02, 0.98) * bench.seconds[job.name] for _ in range(times)]
        for moment in moments:
            before = job.items(self.base)
            self.run(each, after_s=moment, act=self.kill)
            bench.check_kept(job, self.place, f"{job.name} in a server killed after {moment:.3f} s", before)
        bench.finish(
            job,
            self.place,
            f"{job.name} in a server killed after {[round(moment, 2) for moment in moments]} s",
            run=lambda: self.run(each)[0],
        )
        self.clear(each)

    def cancel(self, each: ServerJob) -> float:
        """Cancel a job somewhere; return the seconds from there to its end, and let the next run end it."""
        said_at: list[float] = []
        moment = self.bench.dice.uniform(0.02, 0.9) * self.bench.seconds[each.job.name]

        def cancel() -> None:
            said_at.append(time.monotonic())
            ComfyClient(self.running().url).interrupt()

        outcome, _ = self.run(each, after_s=moment, act=cancel)
        took = time.monotonic() - said_at[0] if said_at else 0.0
        self.bench.counts["cancels"] += bool(said_at)
        what = f"{each.job.name} canceled after {moment:.2f} s"
        say(f"  {what}: {outcome.kind} {outcome.text}, {took:.2f} s later")
        self.bench.finish(each.job, self.place, what, run=lambda: self.run(each)[0])
        self.clear(each)
        return took

    def run(
        self, each: ServerJob, *, after_s: float = 0.0, act: Callable[[], None] | None = None
    ) -> tuple[Outcome, float]:
        """Queue a job's prompt; return how it ended and the seconds of its node.

        Args:
            act: what to do so long after the node has begun.
        """
        server, begun, ended = self.running(), threading.Event(), threading.Event()
        began_at: list[float] = []

        def on_event(kind: str, data: dict) -> None:
            if kind == "executing" and data.get("node") == each.key and not began_at:
                began_at.append(time.monotonic())
                begun.set()

        actor = threading.Thread(target=_act_later, args=(begun, ended, after_s, act))
        actor.start()
        try:
            result = ComfyClient(server.url).run(
                each.prompt(self.info), on_event=on_event, timeout=PATIENCE_S
            )
            outcome = Outcome("fine", value=text_of(result.outputs.get(each.key, {})))
        except Interrupted:
            outcome = Outcome("stopped")
        except Exception as error:  # of a killed server, or what an artist would see
            outcome = Outcome("raw", f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - (began_at or [time.monotonic()])[0]
        ended.set()
        actor.join()
        return outcome, seconds

    def kill(self) -> None:
        """Kill the server that runs."""
        server, self.server = self.server, None
        assert server is not None
        assert server.process is not None
        end_group(server.process, signal.SIGKILL)
        server.process.wait()
        self.bench.counts["kills"] += 1
        self.bench.counts["server_kills"] += 1

    def clear(self, each: ServerJob) -> None:
        """Remove what a job made."""
        for pattern in each.job.state:
            for path in self.base.glob(pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _act_later(
    begun: threading.Event, ended: threading.Event, after_s: float, act: Callable[[], None] | None
) -> None:
    """Act so long after a node began, unless its prompt has ended before."""
    while act is not None and not begun.wait(0.05):
        if ended.is_set():
            return
    if act is not None and not ended.wait(after_s):
        act()


def text_of(output: dict) -> str:
    return "\n".join(output.get("text", ()))


def write_inputs(base: Path) -> None:
    """Write what the prompts read."""
    from safetensors.torch import save_file

    write_pictures(base / "input" / "pictures", NUM_PICTURES)
    for number in range(NUM_VIDEOS):
        path = base / "input" / "videos" / f"{number}.mp4"
        write_captioned(path, f"video {number}", num_frames=10 + number, width=64, height=64)
    for name in ("diffusion_models", "text_encoders"):
        (base / "models" / name).mkdir(parents=True)
    save_file(tiny_dit(33, hidden_size=1024), base / "models" / "diffusion_models" / "dit.safetensors")
    write_clip_folder(base / "models" / "text_encoders" / "tiny_clip")


def server_jobs() -> list[ServerJob]:
    """Return the prompts of the nodes that keep work on disk."""
    sets = build(folder="input/videos", set_name="set")
    ready = build(folder="input/videos", set_name="ready")
    trained = distill(training_set="ready", run_name="run", save_every=1, sample_every=0, few_steps=1)
    trained["distill"]["inputs"]["training_set"] = ["set", 0]
    index = node(
        "Magic141BuildImageIndex",
        folder="input/pictures",
        index_name="pictures",
        clip="tiny_clip",
        batch_size=2,
        rebuild=False,
    )
    small = node(
        "Magic141QuantizeFile",
        model_name="dit.safetensors",
        save_as="small",
        mode="int8 weight-only (paper)",
        granularity="per row",
        layout="quanto, diffusers names",
        overwrite=True,
        all_linear=False,
        dry_run=False,
    )
    return [
        ServerJob("extend", extend_prompt, _runs("extend")),
        ServerJob("start", lambda _: windows_prompt(), _runs("graph")),
        ServerJob(
            "quantize",
            lambda _: {"quantize": small},
            Job(
                "server quantize",
                _nothing,
                weights("diffusion_models"),
                lambda case: {},
                ("models/diffusion_models/*small*",),
            ),
        ),
        ServerJob(
            "index",
            lambda _: {"index": index},
            Job(
                "server index",
                _nothing,
                index_rows,
                index_rows,
                ("models/magic141_image_index/pictures",),
                rows_kept,
            ),
        ),
        ServerJob(
            "set",
            lambda _: sets,
            Job("server set", _nothing, set_shards, shards, ("models/magic141_training_sets/set",)),
        ),
        ServerJob(
            "distill",
            lambda _: {**ready, **trained},
            Job(
                "server distill",
                _nothing,
                weights("loras"),
                checkpoints,
                ("output/magic141_distill/run", "models/loras/*"),
                resumed_step,
            ),
        ),
    ]


def _nothing() -> Any:
    raise AssertionError("a server does this job")


def _runs(name: str) -> Job:
    """Return the job of a node that makes windows in runs of a name."""
    folder = f"output/magic141_runs/{name}-*"
    return Job(f"server {name}", _nothing, videos_of_runs(folder), windows_of_runs(folder), (folder,))


def extend_prompt(info: dict) -> dict:
    """Return the workflow of one minute, cut to some windows."""
    workflow = json.loads(template("magic141_one_minute").read_text(encoding="utf-8"))
    prompt = workflow_to_prompt(workflow, info)
    cut_long_videos(prompt, NUM_WINDOWS)
    kept = {k: n for k, n in prompt.items() if n["class_type"] not in ("SaveVideo", "PreviewImage")}
    (key,) = (k for k, n in kept.items() if n["class_type"] == "Magic141SlidingWindowExtend")
    widgets = {"run_name": "extend", "length": NUM_WINDOWS, "length_in": "windows", "codec": "ffv1 lossless"}
    kept["extend"] = kept.pop(key)
    kept["extend"]["inputs"] |= widgets
    return {k: n for k, n in kept.items() if [key, 0] not in n["inputs"].values()}


def windows_prompt() -> dict:
    """Return a graph between Window Start and Window Save that takes a while for every window."""
    return made_up_graph(clip={"seconds": 0.3}, run_name="graph", length=float(NUM_WINDOWS))
