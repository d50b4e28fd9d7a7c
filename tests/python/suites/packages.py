"""The packages that programs use most: whether pip installs them for a guest, whether they can be imported in a container,
and the own tests of some of them. `make test-packages` writes docs/reference/python-packages.md.

What is tried is in packages.toml; the versions of all that pip installs are in packages.txt.
"""

import hashlib
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import results
import sources
from containers import CACHE, REPO, SUITE, Failed, last_line, run_tests

HERE = pathlib.Path(__file__).resolve().parent
LOCK = HERE / "packages.txt"
PAGE = REPO / "docs/reference/python-packages.md"
# As docs/use/python.md says.
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
# A plugin of pytest is loaded only if packages.toml names it.
PYTEST = {"PYTHONPATH": "/packages", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
FOR_GUESTS = ["--python-version", "3.13", "--only-binary", ":all:"]


def read_data():
    packages = tomllib.loads((HERE / "packages.toml").read_text())["package"]
    for name, table in packages.items():
        unknown = table.keys() - {"import", "with", "sha256", "tests", "folder", "environment"}
        if unknown or ("tests" in table) != ("sha256" in table):
            raise Failed(f"packages.toml: {name}: unknown names {unknown}, or tests without a source's sha256")
    return packages


def versions():
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))


def pip(*arguments):
    """Runs pip; returns what it says if it fails."""
    done = subprocess.run([*PIP, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else last_line(done.stderr) or f"status {done.returncode}"


def wheels():
    """A folder with the wheels of the lock, fetched by hash."""
    kept = CACHE / "wheels" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    if not kept.exists():
        results.progress("fetching the packages")
        kept.parent.mkdir(parents=True, exist_ok=True)
        new = kept.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        error = pip("download", "--no-deps", "--require-hashes", "--dest", new, *FOR_GUESTS, "--requirement", LOCK)
        if error:
            raise Failed(f"cannot fetch the packages: {error}")
        new.rename(kept)
    return kept


def constraints(containers):
    """The versions that the image has built in, as its own file names them."""
    told = containers.run(["-c", "print(open('/usr/local/lib/python3.13/constraints.txt').read())"])
    if told.code != 0:
        raise Failed(f"cannot read the image's constraints.txt: {told.output}")
    path = CACHE / "constraints.txt"
    path.write_text(told.output)
    return path


def install(folder, names, constraint):
    """Installs packages from the wheels into a folder; returns what pip says if it cannot."""
    shutil.rmtree(folder, ignore_errors=True)
    error = pip(
        "install", "--no-index", "--find-links", wheels(), "--constraint", constraint, "--no-compile", "--target", folder,
        *FOR_GUESTS, *names,
    )
    if not error:
        sources.hand_over(folder)
    return error


def import_one(containers, constraint, name, table):
    """Installs and imports one package."""
    folder = CACHE / "installed" / name
    error = install(folder, [name, *table.get("with", [])], constraint)
    if error:
        return {"install": ("failed", error)}, error
    modules = table.get("import", [name.replace("-", "_")])
    outcomes, output = {"install": ("passed", "")}, ""
    for module in modules:
        done = containers.run(
            ["-W", "ignore", "-c", f"import {module}"], mounts=[f"src={folder},dst=/packages,ro"],
            environment={"PYTHONPATH": "/packages"}, network=True,
        )
        outcomes[f"import {module}"] = ("passed", "") if done.code == 0 else ("failed", last_line(done.output))
        output += done.output
    shutil.rmtree(folder)
    return outcomes, output


def run_own_tests(containers, everything, name, table):
    """The tests of a package's source distribution, by pytest."""
    kept = sources.source_distribution(name, versions()[name], table["sha256"])
    outcomes, output, code = run_tests(
        containers, name, ["-B", f"{SUITE}/pytest_suite.py", "-q", "-p", "no:cacheprovider", "--tb=short", "--continue-on-collection-errors", *table["tests"]],
        mounts=[f"src={kept},dst=/source", f"src={everything},dst=/packages"], workdir=f"/source/{table.get('folder', '')}",
        environment=PYTEST | table.get("environment", {}), network=True,
    )
    if code not in (0, 1) and not any(kind == "failed" for kind, _ in outcomes.values()):
        outcomes[f"{name} (end)"] = ("failed", f"exit code {code}: {last_line(output)}")
    return outcomes, output


def main(containers, only, go_on):
    data, reasons = read_data(), results.read_reasons(HERE / "packages-reasons.toml")
    names = [name for name in data if not only or name in only]
    constraint = constraints(containers)
    wheels()
    imported = results.run_parts(
        "packages", names, lambda name: import_one(containers, constraint, name, data[name]), reasons,
        go_on=go_on, end_all=containers.end_all,
    )
    everything = CACHE / "installed-for-tests"
    tested = [name for name in names if "tests" in data[name]]
    kept = results.Kept("packages-tests", go_on)
    if not all(kept.get(name) for name in tested):
        # The lock has all that they depend on.
        error = install(everything, ["--no-deps", *versions()], constraint)
        if error:
            raise Failed(f"cannot install what the tests of packages need: {error}")
    parts = results.run_parts(
        "packages-tests", tested, lambda name: run_own_tests(containers, everything, name, data[name]), reasons,
        go_on=go_on, end_all=containers.end_all,
    )
    if not only:
        PAGE.write_text(page(imported, parts, reasons))
        results.progress(f"wrote {PAGE.relative_to(REPO)}")
    return results.report_unexplained([*imported, *parts], reasons)


def page(imported, parts, reasons):
    version = versions()
    well = sum(part.counts()[1] == 0 for part in imported)
    passed, failed, skipped = results.of_all(parts)
    lines = [
        "# Python packages that were tried",
        "",
        "<!-- Written by `make test-packages` from tests/python/suites/packages.toml. -->",
        "",
        f"{len(imported)} packages, installed by pip [as the guide says](../use/python.md#packages), each imported in a container of",
        f"its own. {well} of them install and import. Not listed is what they depend on.",
        "",
        "| package | version | installs | imports | if not, why |",
        "|---|---|---|---|---|",
    ]
    for part in imported:
        failures = part.of_kind("failed")
        installs = "install" not in failures
        imports = installs and not failures
        why = "; ".join(results.cell(text) for text in failures.values())
        why += "".join(f" **{name}**" for name in results.explain(reasons, part) if name)
        lines.append(f"| {part.name} | {version[part.name]} | {say(installs)} | {say(imports)} | {why} |")
    lines += [
        "",
        "## Their own tests",
        "",
        f"The tests of {len(parts)} source distributions, by pytest in a container: {passed} passed, {failed} failed, {skipped} were",
        "skipped. pytest ran as a user without rights, with a loopback of its own.",
        "",
        *results.table_of_parts("package", parts, reasons),
        "",
        *results.table_of_reasons(parts, reasons),
        "",
    ]
    return "\n".join(lines)


def say(well):
    return "yes" if well else "no"
