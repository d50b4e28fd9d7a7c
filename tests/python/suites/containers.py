"""Python in containers of `wasm-interp run`: what they mount, what they print, and how one that hangs is ended."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

REPO = pathlib.Path(__file__).resolve().parents[3]
GUEST = pathlib.Path(__file__).resolve().parent / "guest"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "wasm-interp/python-suites"
# Where it is in the container: beneath sys.base_prefix, so that no test takes it for its own program.
SUITE = "/usr/local/suite"
# A user without a right that others do not have, as of a native run.
USER = "65534:65534"
# How long a container may do nothing that can be seen from outside before it counts as hung.
PATIENCE = 180
TRAPPED = 134


class Failed(Exception):
    """The text is for the person who runs the suite."""


class Finished:
    """A container that has ended. `hung` if it was ended from here."""

    def __init__(self, code, output, hung):
        self.code, self.output, self.hung = code, output, hung


class Containers:
    """Starts containers of one image with the executables of one folder: its own image of Python, if no other is named."""

    def __init__(self, dist, image="images/python.tar"):
        self.executable, self.image = dist / "wasm-interp", image and dist / image
        for path in (self.executable, self.image):
            if path and not path.exists():
                raise Failed(f"cannot find {path}: run make build images first")
        if os.geteuid() != 0:
            raise Failed("must be root to start containers")
        CACHE.mkdir(parents=True, exist_ok=True)
        self.running, self.ended = set(), False
        self.lock = threading.Lock()

    def compile(self):
        """Compiles the interpreter, which may take as long as it needs: no test's time counts before."""
        started = self.run(["-c", "pass"], patience=float("inf"))
        if started.code != 0:
            raise Failed(f"cannot start Python in a container: {started.output}")

    def run(self, arguments, *, mounts=(), environment=(), workdir="/tmp", network=False, watched=None, patience=PATIENCE):
        """Runs `python ARGUMENTS` to its end. `mounts` are those of `wasm-interp run`; /tmp is memory.

        With `network` the container has a loopback of its own. A container that prints nothing and writes nothing to
        the file `watched` for `patience` seconds is ended.
        """
        command = [self.executable, "run", "--user", USER, "--workdir", workdir, "--mount", "type=tmpfs,dst=/tmp"]
        for mount in mounts:
            command += ["--mount", mount]
        for name, value in {"HOME": "/tmp", **dict(environment)}.items():
            command += ["--env", f"{name}={value}"]
        if network:
            # Beneath `pod` there are no Unix sockets.
            command += ["--network", "pod", "--listen", "unix:*", "--connect", "unix:*"]
            command = ["unshare", "--net", "sh", "-euc", 'ip link set lo up; exec "$@"', "sh", *command]
        command += [self.image, "--", "python", *arguments]
        with tempfile.TemporaryFile(dir=CACHE) as output:
            with self.lock:
                if self.ended:
                    raise Failed("ended by a signal")
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                    env=os.environ | {"WASM_INTERP_CACHE_DIR": str(CACHE / "store")},
                )
                self.running.add(process)
            try:
                hung = not self.wait(process, output.fileno(), watched, patience)
            finally:
                self.running.discard(process)
            output.seek(0)
            return Finished(process.returncode, output.read().decode(errors="replace"), hung)

    @staticmethod
    def wait(process, output, watched, patience):
        """Waits for the end; false if the container hung."""
        seen, since = None, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
                return True
            now = (os.fstat(output).st_size, watched.stat().st_size if watched and watched.exists() else 0)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > patience:
                end(process)
                return False

    def end_all(self):
        with self.lock:
            self.ended = True
            for process in list(self.running):
                end(process)


def end(process):
    """Ends a container by SIGKILL of its guest: `wasm-interp run` then removes it."""
    with contextlib.suppress(FileNotFoundError):
        for child in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_tests(containers, name, arguments, *, mounts=(), environment=(), **options):
    """Runs tests that record their outcomes, on and on until the last has one; returns (outcomes, output, code).

    A test that traps or hangs gets that as its outcome, and another container goes on with the tests after it.
    """
    outcomes, outputs = {}, []
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="run.") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o777)
        file, ignored = folder / "outcomes", folder / "ignored"
        while True:
            ignored.write_text("".join(f"{test}\n" for test in outcomes))
            ignored.chmod(0o644)
            file.unlink(missing_ok=True)
            finished = containers.run(
                arguments, mounts=[f"src={GUEST},dst={SUITE},ro", f"src={folder},dst=/outcomes", *mounts], watched=file,
                environment={"OUTCOMES": "/outcomes/outcomes", "IGNORED": "/outcomes/ignored", **dict(environment)},
                **options,
            )
            outputs.append(finished.output)
            before = len(outcomes)
            at = add_outcomes(outcomes, file)
            if not finished.hung and finished.code not in (TRAPPED, 137):
                break
            what = "hangs" if finished.hung else "is killed" if finished.code == 137 else "traps"
            outcomes[at or f"{name} (import)"] = ("failed", f"{what}: {last_line(finished.output)}")
            # Between tests, or in what is ignored already: there is nothing left to leave out.
            if at is None or len(outcomes) == before:
                break
    return outcomes, "".join(outputs), finished.code


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"


def add_outcomes(outcomes, file):
    """Adds what a run recorded; returns the test that began and did not end."""
    at = None
    for line in file.read_text().splitlines() if file.exists() else []:
        event, test, text = json.loads(line)
        if event == "begin":
            at = test
        elif event == "end":
            at = None
        elif test not in outcomes or event == "failed" or outcomes[test][0] == "passed":
            # Of the parts of a test, the first that failed counts.
            if test in outcomes and outcomes[test][0] == "failed":
                continue
            outcomes[test] = (event, text)
    return at
