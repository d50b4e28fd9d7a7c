"""What the results of two runtimes say together: a comparison with its page, and what of it has no explanation."""

import dataclasses
import os
import pathlib
import re
import subprocess
import tomllib

import suite

RUNC, OURS = "runc", "wasm-interp"
LEFT_OUT = "left out"
HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass
class Explanation:
    """Why a result is what it is. `test` is a name, or TestX/part; that of a test holds for its parts too."""

    test: str
    why: str
    # The daemons that it holds for; all, if it names none.
    daemons: tuple = ()
    # It is not run: a difference not under our runtime, what they share under neither.
    left_out: bool = False

    def holds(self, series):
        return not self.daemons or series in self.daemons

    def is_of(self, name):
        return f"{name}/".startswith(f"{self.test}/")


@dataclasses.dataclass
class Explanations:
    differences: list
    # Tests that do not pass under runc either.
    shared: list

    def left_out(self, test, series, runtime):
        items = [*self.shared, *(self.differences if runtime == OURS else ())]
        return any(item.left_out and item.test == test and item.holds(series) for item in items)

    def explain(self, test, series):
        """Whether anything is said of a result of this test or of a part of it."""
        items = [*self.differences, *self.shared]
        return any(item.test.partition("/")[0] == test and item.holds(series) for item in items)

    @staticmethod
    def find(items, test, series):
        return next((item for item in items if item.is_of(test) and item.holds(series)), None)


def read_explanations(path=HERE / "explanations.toml"):
    document = tomllib.loads(path.read_text())

    def read(kind):
        return [Explanation(item["test"], item["why"], tuple(item.get("daemons", ())), item.get("left_out", False))
                for item in document.get(kind, ())]

    return Explanations(read("difference"), read("shared"))


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


class Comparison:
    """`outcome` holds a `suite.Results` per daemon and runtime."""

    def __init__(self, tests, outcome, explanations):
        self.tests, self.outcome, self.explanations = tests, outcome, explanations
        self.series = list(dict.fromkeys(series for series, _ in outcome))

    def word(self, test, series, runtime):
        if self.explanations.left_out(test.partition("/")[0], series, runtime):
            return LEFT_OUT
        return self.outcome[series, runtime].words.get(test, "not reached")

    def names(self, series):
        """Tests and their parts under a daemon, in the suite's order."""
        for test in self.tests:
            yield test
            if not self.explanations.left_out(test, series, OURS):
                words = [name for runtime in (RUNC, OURS) for name in self.outcome[series, runtime].words]
                yield from sorted({name for name in words if name.startswith(f"{test}/")})

    def pairs(self, series, differing):
        """(test, runc's word, ours): results that differ, or equal ones that are no pass. A test with such parts is left out."""
        found = []
        for name in self.names(series):
            runc, ours = self.word(name, series, RUNC), self.word(name, series, OURS)
            if runc != ours if differing else runc == ours != suite.PASSED:
                found.append((name, runc, ours))
        wholes = {name.rpartition("/")[0] for name, *_ in found}
        return [pair for pair in found if pair[0] not in wholes]

    def faults(self, complete):
        """What is not explained, and explanations of what is not so."""
        faults, used = [], []
        for series in self.series:
            for items, differing in ((self.explanations.differences, True), (self.explanations.shared, False)):
                for name, runc, ours in self.pairs(series, differing):
                    if explanation := Explanations.find(items, name, series):
                        used.append(explanation)
                    else:
                        faults.append(f"containerd {series}: {name}: {runc} under runc, {ours} under wasm-interp: "
                                      "explanations.toml does not say why")
        if complete:
            faults += [f"explanations.toml explains {item.test}, which has no such result" for item in
                       [*self.explanations.differences, *self.explanations.shared]
                       if item not in used and (not item.daemons or set(item.daemons) & set(self.series))]
        return faults

    def shown(self, test, series, runtime):
        repeated = test in self.outcome[series, runtime].repeated
        return self.word(test, series, runtime) + (" (second try)" if repeated else "")

    def counts(self, series, runtime):
        words = [self.word(test, series, runtime) for test in self.tests]
        return [str(words.count(word)) for word in (suite.PASSED, suite.FAILED, suite.SKIPPED)] \
            + [str(sum(word not in (suite.PASSED, suite.FAILED, suite.SKIPPED) for word in words))]

    def summary(self):
        return table(["containerd", "runtime", "passed", "failed", "skipped", "left out, or hung"],
                     [[series, runtime, *self.counts(series, runtime)] for series, runtime in self.outcome])

    def explained(self, items, differing):
        """One row per explanation and result, with the daemons that have it."""
        rows = {}
        for series in self.series:
            for name, runc, ours in self.pairs(series, differing):
                explanation = Explanations.find(items, name, series) or Explanation(name, "?")
                rows.setdefault((explanation.test, runc, ours, explanation.why), []).append(series)
        for (name, runc, ours, why), series in rows.items():
            yield [f"`{name}`", ", ".join(dict.fromkeys(series)), *([runc, ours] if differing else [runc]), why]

    def page(self, surroundings):
        every = list(self.outcome)
        return "\n".join([
            "# Conformance\n",
            "containerd's own client suite (its folder `integration/client`) against `io.containerd.wasm-interp.v1`, beside",
            "`io.containerd.runc.v2`.",
            "Its containers are plain Linux programs: busybox. `make test-conformance` writes this page; do not edit it.\n",
            *surroundings, "", self.summary(),
            "## Where the results differ\n",
            table(["test", "containerd", "runc", "wasm-interp", "why"], self.explained(self.explanations.differences, True)),
            "## What does not pass under runc either\n",
            table(["test", "containerd", "result", "why"], self.explained(self.explanations.shared, False)),
            "## Every test\n",
            table(["test", *(f"{series}, {runtime}" for series, runtime in every)],
                  [[f"`{test}`", *(self.shown(test, *column) for column in every)] for test in self.tests]),
        ])


def version(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def surroundings(daemons):
    """Lines about what the results were made with."""
    versions = []
    for folder in daemons.values():
        said = version(f"{folder}/containerd", "--version")
        versions.append(re.search(r"\bv?(\d+\.\d+\.\d+)", said).group(1))
    tested = re.search(r"containerd/v2 (v\S+)", (HERE.parent / "modules/conformance/go.mod").read_text()).group(1)
    runc, linux = version("runc", "--version").split()[2], os.uname().release.split("-")[0]
    cgroups = 2 if pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
    return [
        f"- the suite of containerd {tested}, daemons {' and '.join(versions)}, runc {runc}, Linux {linux}, cgroups of version {cgroups}",
        "- the images that the suite asks for are made here, and served over TLS on loopback under the names that it uses;",
        "  [`tests/conformance`](../../tests/conformance) has what makes them, and the reasons below",
        "- tests that start a daemon of their own (`TestRestartMonitor`) or name runc's shim (`TestDaemonRuntimeRoot`,",
        "  `TestContainerRuntimeOptionsv2`) have runc's shim in both runs: the suite knows no other for them",
    ]
