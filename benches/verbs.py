"""Measures the verbs of a running container, and what a shim costs. Called by benches/run.

The requests go straight to the shim, by its Task API: no start of `ctr` is in the times.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

import ttrpc

# After it, threads that only the last requests needed have ended.
IDLE_SECONDS = 3
GROUP = "io.containerd.runc.v2.group"


class Container:
    """An idle container of a side, made by `ctr`; several of one group have one shim."""

    def __init__(self, daemon, side, name, group=None):
        self.daemon, self.side, self.name = daemon, side, name
        annotations = ["--annotation", f"{GROUP}={group}"] if group else []
        daemon.ctr("run", "--detach", "--runtime", side.runtime, *annotations, side.image, name,
                   side.program, "/app/idle.py", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def bundle(self):
        return next(pathlib.Path(self.daemon.work, "state").glob(f"io.containerd.runtime.v2.task/*/{self.name}"))

    def task(self):
        return ttrpc.Task(json.loads((self.bundle() / "bootstrap.json").read_text())["address"], self.name)

    def process(self, *words):
        """A further process: the container's own, with other words."""
        process = json.loads((self.bundle() / "config.json").read_text())["process"]
        return {**process, "args": [self.side.program, *words]}

    def shim(self):
        """The process number of its shim: the parent of what it runs is the shim, under either runtime."""
        init = int((self.bundle() / "init.pid").read_text())
        return int(pathlib.Path(f"/proc/{init}/stat").read_text().rsplit(")", 1)[1].split()[1])

    def remove(self):
        self.daemon.ctr("task", "rm", "-f", self.name, check=False, capture_output=True)
        self.daemon.ctr("container", "rm", self.name, check=False, capture_output=True)


@contextlib.contextmanager
def containers(daemon, side, names, group=None):
    made = []
    try:
        for name in names:
            made.append(Container(daemon, side, name, group))
        yield made
    finally:
        for container in made:
            container.remove()


@contextlib.contextmanager
def pipes(container, number):
    """FIFOs for a process's three streams; both ends are held open, as by containerd's clients."""
    ends = [f"{container.daemon.work}/{container.name}-{number}-{stream}" for stream in ("in", "out", "err")]
    with contextlib.ExitStack() as stack:
        for end in ends:
            os.mkfifo(end)
            stack.callback(os.remove, end)
            stack.callback(os.close, os.open(end, os.O_RDWR))
        yield ends


def timed(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def one_liner(container, task, number):
    """Seconds of an exec that prints, from its request to its exit and removal."""
    exec_id = f"line-{number}"

    def run():
        task.exec(exec_id, container.process("-c", "print(sum(range(10)))"), False, "", *ends[1:])
        if status := task.wait(exec_id):
            raise ttrpc.Failed(f"{container.side.name}: the one-liner has ended with {status}")
        task.delete(exec_id)

    with pipes(container, exec_id) as ends:
        return timed(run)


# Each is one request. A limit alternates, so that there is something to change.
LIMITS = (512 << 20, 768 << 20)
VERBS = {
    "exec of a Python one-liner, to its exit and removal": one_liner,
    "pause": lambda container, task, number: timed(task.pause),
    "resume": lambda container, task, number: timed(task.resume),
    "update of the memory limit": lambda container, task, number: timed(
        lambda: task.update({"memory": {"limit": LIMITS[number % 2]}})),
    "stats": lambda container, task, number: timed(task.stats),
    "pids": lambda container, task, number: timed(task.pids),
}


def verbs(daemon, sides, rounds, fresh_id):
    """Seconds per verb and side, the sides in turn: {verb: {side: [seconds]}}."""
    results = {verb: {side.name: [] for side in sides} for verb in VERBS}
    with contextlib.ExitStack() as stack:
        running = []
        for side in sides:
            (container,) = stack.enter_context(containers(daemon, side, [fresh_id()]))
            running.append((container, stack.enter_context(contextlib.closing(container.task()))))
        # Once before it counts: what is read for the first time, is read from disk.
        for container, task in running:
            one_liner(container, task, "first")
        for number in range(rounds):
            for container, task in running:
                for verb, measure in VERBS.items():
                    results[verb][container.side.name].append(measure(container, task, number))
    return results


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def shim_alone(daemon, side, count, rollup, fresh_id):
    """KiB and threads of one shim with this many idle containers."""
    names = [fresh_id() for _ in range(count)]
    with containers(daemon, side, names, group=names[0]) as made:
        time.sleep(IDLE_SECONDS)
        shims = {container.shim() for container in made}
        if len(shims) != 1:
            raise ttrpc.Failed(f"{side.name}: {count} containers of one group have {len(shims)} shims")
        pid = shims.pop()
        return {**rollup(pid), "threads": threads(pid)}


def shim_with_execs(daemon, side, count, terminal, rollup, fresh_id):
    """The same with one container and this many further processes, which idle too; each has pipes, or a terminal."""
    with containers(daemon, side, [fresh_id()]) as (container,), contextlib.ExitStack() as stack:
        task = stack.enter_context(contextlib.closing(container.task()))
        for number in range(count):
            ends = stack.enter_context(pipes(container, number))
            process = {**container.process("/app/idle.py"), "terminal": terminal}
            task.exec(f"idle-{number}", process, terminal, *(ends[:2] if terminal else ends))
        time.sleep(IDLE_SECONDS)
        pid = container.shim()
        found = {**rollup(pid), "threads": threads(pid)}
        for number in range(count):
            task.kill(f"idle-{number}", signal.SIGKILL)
            task.wait(f"idle-{number}")
            task.delete(f"idle-{number}")
        return found


def footprint(daemon, sides, many, rollup, fresh_id):
    """What a shim costs: {situation: {side: KiB of each field, and threads}}."""
    situations = {
        "1 container": lambda side: shim_alone(daemon, side, 1, rollup, fresh_id),
        f"{many} containers of one pod": lambda side: shim_alone(daemon, side, many, rollup, fresh_id),
        "1 container, 10 execs with pipes": lambda side: shim_with_execs(daemon, side, 10, False, rollup, fresh_id),
        "1 container, 10 execs with terminals": lambda side: shim_with_execs(daemon, side, 10, True, rollup, fresh_id),
    }
    return {situation: {side.name: measure(side) for side in sides} for situation, measure in situations.items()}
