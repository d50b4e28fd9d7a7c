"""A place of its own for one call of the suite: namespaces, cgroups, /run, /var/lib and /tmp.

The suite expects a machine that is its alone: fixed paths, fixed names of containers, registries by their names. It gets one that
ends with it. The outer half (`run`) makes the place and takes it away; the inner half (`main`) is its first process.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import images
import registry

# Where the inner half has everything: short, because sockets in it have to fit into 108 bytes.
INSIDE = pathlib.Path("/run/c")


# Stands before containerd on the PATH: the suite writes the configurations of its daemons, and has no word in it for this.
# It refuses a daemon of which any plugin fails; a distribution's containerd 1.6 has one that fails without configuration.
WITHOUT_DEVMAPPER = f"""#!/bin/sh
line='disabled_plugins = ["io.containerd.snapshotter.v1.devmapper"]'
for argument; do
    case $previous in
        -c | --config)
            # A daemon that starts again has the line.
            grep -qxF "$line" "$argument" || sed -i "1i $line" "$argument" ;;
    esac
    previous=$argument
done
exec {INSIDE}/programs/containerd "$@"
"""


def hierarchies():
    """Mount points of cgroups, of v1 and of v2."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] in ("cgroup", "cgroup2"):
            yield pathlib.Path(before.split()[4])


class Cgroups:
    """A cgroup in every hierarchy, which the inner half sees as the root."""

    def __init__(self, name):
        if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            # There a cgroup that passes controllers on holds no process itself: the suite would have to start in a further one.
            raise RuntimeError("the suite's own cgroups are made on cgroup v1 only; boot with systemd.unified_cgroup_hierarchy=0")
        self.places = [place / name for place in hierarchies()]
        for place in self.places:
            place.mkdir()
            # A cpuset takes no process before it has processors and memory.
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (place / setting).exists():
                    (place / setting).write_text((place.parent / setting).read_text())

    def enter(self):
        for place in self.places:
            (place / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        # The kernel needs a moment after the last process.
        until = time.monotonic() + 10
        for place in self.places:
            while place.exists():
                for folder, _, _ in os.walk(place, topdown=False):
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
                if place.exists() and time.monotonic() > until:
                    raise RuntimeError(f"cannot remove the cgroup {place}: it holds processes; end them")


def run(work, settings, output):
    """Runs `settings["command"]` with `settings["environment"]` in a place of its own, with `output` for its output."""
    name = f"wasm-interp-conformance-{os.getpid()}"
    (work / "settings.json").write_text(json.dumps({**settings, "cgroup": name}))
    cgroups = Cgroups(name)
    try:
        inner = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL",
             "unshare", "--mount", "--net", "--pid", "--cgroup", "--ipc", "--uts", "--propagation", "private",
             "--fork", "--kill-child", "--mount-proc", sys.executable, "-B", __file__, str(work)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, preexec_fn=cgroups.enter)
        try:
            return inner.wait()
        finally:
            inner.kill()
            inner.wait()
    finally:
        cgroups.remove()


def mount(*words):
    subprocess.run(["mount", *map(str, words)], check=True)


def bind(source, target):
    target.mkdir(exist_ok=True)
    mount("--bind", source, target)


def settle(work, settings):
    """Makes the place out of fresh namespaces. After it only what is beneath INSIDE is ours."""
    subprocess.run([settings["busybox"], "ip", "link", "set", "lo", "up"], check=True)
    for place in hierarchies():
        mount("--bind", place / settings["cgroup"], place)
    mount("-t", "tmpfs", "tmpfs", "/run")
    bind(work, INSIDE)
    for name, folder in settings["folders"].items():
        bind(folder, INSIDE / name)
    for name in ("bin", "lib", "tmp"):
        (INSIDE / name).mkdir()
    if settings["without_devmapper"]:
        wrapper = INSIDE / "bin/containerd"
        wrapper.write_text(WITHOUT_DEVMAPPER)
        wrapper.chmod(0o755)
    (INSIDE / "hosts").write_text(f"127.0.0.1 localhost {' '.join(images.HOSTS)}\n")
    mount("--bind", INSIDE / "hosts", "/etc/hosts")
    mount("--bind", INSIDE / "lib", "/var/lib")
    mount("--bind", INSIDE / "tmp", "/tmp")


def main():
    work = pathlib.Path(sys.argv[1])
    settings = json.loads((work / "settings.json").read_text())
    busybox = pathlib.Path(settings["busybox"]).read_bytes()
    applets = subprocess.run([settings["busybox"], "--list"], check=True, capture_output=True, text=True).stdout.split()
    settle(work, settings)
    certificate, key = registry.make_certificate(INSIDE, images.HOSTS)
    registry.serve(("127.0.0.1", 443), images.all_images(busybox, applets), certificate, key)
    environment = {**os.environ, **settings["environment"], "SSL_CERT_FILE": str(certificate), "TMPDIR": "/tmp"}
    folders = [str(INSIDE / name) for name in ("bin", *settings["folders"])]
    environment["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    suite = os.posix_spawn(settings["command"][0], settings["command"], environment)
    # Shims leave their parents: as the first process of the namespace, this one is the parent of all that do.
    while True:
        pid, status = os.wait()
        if pid == suite:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
