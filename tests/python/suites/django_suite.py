"""Django's own tests on SQLite, each of its folders of tests in a container of its own: `make test-django` writes
docs/internals/django-tests.md."""

import pathlib

import packages
import results
import sources
from containers import CACHE, REPO, SUITE, Failed, last_line, run_tests

HERE = pathlib.Path(__file__).resolve().parent
PAGE = REPO / "docs/internals/django-tests.md"
SHA256 = "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1"
# What Django's tests/requirements/py3.txt asks for, as far as it is not native code.
NEEDS = ["asgiref", "docutils", "jinja2", "pyyaml", "sqlparse", "tzdata"]
# As runtests.py: packages that tests import, and what needs the libraries of geography.
NO_TESTS = {"import_error_package", "test_runner_apps", "gis_tests"}


def folders(source):
    tests = source / "tests"
    names = sorted(path.parent.name for path in tests.glob("*/__init__.py"))
    if not names:
        raise Failed(f"there are no tests in {tests}")
    return [name for name in names if name not in NO_TESTS]


def run_folder(containers, source, needs, name):
    outcomes, output, code = run_tests(
        containers, name, [f"{SUITE}/django_suite.py", "--parallel=1", "--settings=test_sqlite", "--verbosity=0", name],
        mounts=[f"src={source},dst=/source", f"src={needs},dst=/packages"], workdir="/source/tests", network=True,
        environment={"PYTHONPATH": "/source:/packages"},
    )
    if code not in (0, 1) or (code == 1 and not any(kind == "failed" for kind, _ in outcomes.values())):
        outcomes[f"{name} (end)"] = ("failed", f"exit code {code}: {last_line(output)}")
    return outcomes, output


def main(containers, only, go_on):
    version = packages.versions()["django"]
    source = sources.source_distribution("django", version, SHA256)
    needs = CACHE / "installed-for-django"
    error = packages.install(needs, NEEDS, packages.constraints(containers))
    if error:
        raise Failed(f"cannot install what Django's tests need: {error}")
    reasons = results.read_reasons(HERE / "django.toml")
    parts = results.run_parts(
        "django", only or folders(source), lambda name: run_folder(containers, source, needs, name), reasons,
        go_on=go_on, end_all=containers.end_all,
    )
    if not only:
        PAGE.write_text(page(parts, reasons, version))
        results.progress(f"wrote {PAGE.relative_to(REPO)}")
    return results.report_unexplained(parts, reasons)


def page(parts, reasons, version):
    passed, failed, skipped = results.of_all(parts)
    # A folder whose models no test uses has none.
    parts = [part for part in parts if part.outcomes]
    return "\n".join([
        "# Django's own tests",
        "",
        "<!-- Written by `make test-django`. Reasons are in tests/python/suites/django.toml. -->",
        "",
        f"The tests of Django {version}'s source distribution, by its `runtests.py --parallel=1` on SQLite in the image",
        "`localhost/wasm-interp/python:3.13`. Each folder of tests ran in a container of its own, as a user without rights, with a",
        "loopback of its own. Packages that are optional for the tests were there if they are in pure Python or built in.",
        "",
        f"**{passed} tests passed, {failed} failed, {skipped} were skipped** by Django itself.",
        "",
        "## Why tests fail",
        "",
        *results.table_of_reasons(parts, reasons),
        "",
        "## Why tests are skipped",
        "",
        *results.table_of_skips(parts, 10),
        "",
        "## Each folder",
        "",
        *results.table_of_parts("folder", parts, reasons),
        "",
    ])
