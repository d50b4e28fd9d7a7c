"""CPython's own tests, each file in a container of its own: `make test-python` writes docs/internals/python-tests.md."""

import pathlib
import re

import results
import sources
from containers import REPO, SUITE, Failed, last_line, run_tests

HERE = pathlib.Path(__file__).resolve().parent
PAGE = REPO / "docs/internals/python-tests.md"
# As regrtest would start itself again.
OPTIONS = ["-u", "-W", "default", "-bb", "-E"]


def mounts(tests):
    return [f"src={tests},dst=/usr/local/lib/python3.13/test,ro"]


def names_of_files(containers, tests):
    listed = containers.run([*OPTIONS, "-m", "test", "--list-tests"], mounts=mounts(tests))
    names = re.findall(r"^test[\w.]+$", listed.output, re.MULTILINE)
    if listed.code != 0 or not names:
        raise Failed(f"cannot list CPython's tests: {listed.output}")
    return names


def run_file(containers, tests, name):
    outcomes, output, code = run_tests(
        containers, name, [*OPTIONS, f"{SUITE}/library.py", "-W", "--tempdir", "/tmp", name], mounts=mounts(tests), network=True,
    )
    skipped = re.search(r"^\S+ skipped -- (.*)", output, re.MULTILINE)
    crashed = re.search(r"^test \S+ crashed -- (.*(?:\n.*)*?)(?=\n\S*\n|\n== |\Z)", output, re.MULTILINE)
    if skipped and not outcomes:
        outcomes[name] = ("skipped", skipped[1])
    elif crashed:
        errors = re.findall(r"^\w[\w.]*(?:Error|Exception|Interrupt|Exit).*$", crashed[1], re.MULTILINE)
        outcomes[f"{name} (import)"] = ("failed", (errors or [last_line(crashed[1])])[-1])
    elif code not in (0, 2, 3, 4) and not any(kind == "failed" for kind, _ in outcomes.values()):
        outcomes[f"{name} (end)"] = ("failed", f"exit code {code}: {last_line(output)}")
    return outcomes, output


def main(containers, only, go_on):
    tests, version = sources.library_tests()
    reasons = results.read_reasons(HERE / "library.toml")
    names = only or names_of_files(containers, tests)
    parts = results.run_parts(
        "library", names, lambda name: run_file(containers, tests, name), reasons, go_on=go_on, end_all=containers.end_all,
    )
    if not only:
        PAGE.write_text(page(parts, reasons, version))
        results.progress(f"wrote {PAGE.relative_to(REPO)}")
    return results.report_unexplained(parts, reasons)


def page(parts, reasons, version):
    passed, failed, skipped = results.of_all(parts)
    clean = sum(part.counts()[1] == 0 for part in parts)
    return "\n".join([
        "# CPython's own tests",
        "",
        "<!-- Written by `make test-python`. Reasons are in tests/python/suites/library.toml. -->",
        "",
        f"The regression tests of CPython's source ({version} with Debian's patches and ours), by `test.libregrtest` in the image",
        "`localhost/wasm-interp/python:3.13`. Each file ran in a container of its own (`wasm-interp run`), as a user without rights,",
        "with a loopback of its own, and without the resources that regrtest leaves out by default (`-u`).",
        "",
        f"**{passed} tests passed, {failed} failed, {skipped} were skipped**, in {len(parts)} files, of which {clean} have no failure.",
        "A file that skips itself counts as one skipped test. Tests in C (`_testcapi` and its like) are not in the image, so what needs",
        "them is skipped.",
        "",
        "- [Why tests fail](#why-tests-fail), [why tests are skipped](#why-tests-are-skipped), [each file](#each-file)",
        "",
        "## Why tests fail",
        "",
        *results.table_of_reasons(parts, reasons),
        "",
        "## Why tests are skipped",
        "",
        *results.table_of_skips(parts, 10),
        "",
        "## Each file",
        "",
        *results.table_of_parts("file", parts, reasons),
        "",
    ])
