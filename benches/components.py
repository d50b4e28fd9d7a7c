"""The part of `make bench` that compares a component with the same program as a module, and with the peer's.

benches/run calls it, and is `bench` here.
"""

import os
import pathlib
import shutil

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parent

IMAGE = "localhost/bench/hello:1"
RECIPE = "FROM scratch\nCOPY hello /\n"
NATIVE = "runc + native"


def sides(bench):
    """Each shim with each form of the program."""
    forms = [("module", "/module.wasm"), ("component", "/component.wasm")]
    return [
        bench.Side(NATIVE, bench.NATIVE.runtime, IMAGE, "/native"),
        *(bench.Side(f"{shim.name}, {form}", shim.runtime, IMAGE, path) for shim in bench.SHIMS for form, path in forms),
    ]


def build_image(bench, daemon, work):
    """The image with all forms of `guests/hello.c`."""
    context = f"{work}/hello-context"
    folder = f"{context}/hello"
    os.makedirs(folder)
    source = HERE / "guests/hello.c"
    # Without the SDK's C library, which imports more than WASI.
    bench.run(REPO / "scripts/wasm-cc", "--plain", f"{folder}/module.wasm", source, "--", "-O2", "-Wl,--strip-debug")
    bench.run(REPO / "scripts/wasm-component", f"{folder}/component.wasm", source, "--", "-O2", "-Wl,--strip-debug")
    bench.run("gcc", "-O2", "-static", "-s", "-o", f"{folder}/native", source)
    archive = f"{work}/hello.tar"
    bench.RECIPES[IMAGE] = RECIPE
    bench.build_image(work, context, IMAGE, archive)
    daemon.ctr("image", "import", archive, stdout=bench.subprocess.DEVNULL)
    os.remove(archive)
    shutil.rmtree(context)


def measure(bench, daemon, work, rounds):
    """Seconds of a whole run by side, and KiB of idle containers."""
    bench.say("hello as a module and as a component")
    build_image(bench, daemon, work)
    compared = sides(bench)
    for side in compared:
        bench.whole_run(daemon, side, "hello")
    whole = bench.in_turn(rounds, lambda side: bench.whole_run(daemon, side, "hello")[0], compared)
    resident = {side.name: bench.memory(daemon, side, 5) for side in compared}
    return {"whole": whole, "resident": resident}


def report(bench, data):
    """The section of the page."""
    resident = data["resident"]
    rows = [bench.memory_row(name, values, resident[NATIVE]) for name, values in resident.items()]
    return (
        "## A component beside a module\n\n"
        "[`hello.c`](../../benches/guests/hello.c) with Debian's wasi-libc, as a module for wasm32-wasip1 and as a component for\n"
        "wasm32-wasip2, and natively.\n\n"
        + bench.seconds_table("`ctr run --rm` of hello in C, warm", data["whole"], NATIVE)
        + "\n### Memory of five idle containers, in KiB per container\n\n"
        + bench.memory_table(rows)
    )
