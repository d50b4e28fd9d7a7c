"""What became of the tests of a suite: kept file by file, explained by the suite's reasons, and written as a page."""

import collections
import concurrent.futures
import dataclasses
import json
import re
import shutil
import sys
import time
import tomllib

from containers import CACHE, Failed

# One per processor of the smallest machine that this is run on.
WORKERS = 2


@dataclasses.dataclass
class Part:
    """A part of a suite that runs in a container of its own: a file, a package. `outcomes`: kind and text per test."""

    name: str
    outcomes: dict
    seconds: float = 0.0

    def of_kind(self, kind):
        return {test: text for test, (outcome, text) in self.outcomes.items() if outcome == kind}

    def counts(self):
        return [len(self.of_kind(kind)) for kind in ("passed", "failed", "skipped")]


@dataclasses.dataclass
class Reason:
    """Why tests fail: of those whose part and name match `test`, and whose error matches `error`."""

    name: str
    text: str
    test: re.Pattern
    error: re.Pattern

    def explains(self, part, test, text):
        return self.test.search(f"{part} {test}") and self.error.search(text)


def read_reasons(path):
    reasons = []
    for table in tomllib.loads(path.read_text()).get("reason", []):
        unknown = table.keys() - {"name", "text", "test", "error"}
        if unknown or not table.keys() >= {"name", "text"} or not table.keys() & {"test", "error"}:
            raise Failed(f"{path}: a reason has a name, a text, and a test or an error: {table}")
        patterns = [re.compile(table.get(key, "")) for key in ("test", "error")]
        reasons.append(Reason(table["name"], table["text"], *patterns))
    return reasons


def explain(reasons, part):
    """The failures of a part, per reason; None is for those that have none."""
    explained = collections.defaultdict(list)
    for test, text in part.of_kind("failed").items():
        found = next((reason for reason in reasons if reason.explains(part.name, test, text)), None)
        explained[found and found.name].append((test, text))
    return explained


class Kept:
    """The results of a run, so that a run can go on that was ended."""

    def __init__(self, suite, go_on):
        self.folder = CACHE / "results" / suite
        if not go_on:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name):
        return self.folder / (name.replace("/", ".") + ".json")

    def get(self, name):
        path = self.path(name)
        return Part(**json.loads(path.read_text())) if path.exists() else None

    def put(self, part, output):
        self.path(part.name).with_suffix(".log").write_text(output)
        self.path(part.name).with_suffix(".new").write_text(json.dumps(dataclasses.asdict(part), indent=1))
        self.path(part.name).with_suffix(".new").rename(self.path(part.name))


def run_parts(suite, names, run, reasons, *, go_on, end_all):
    """Runs every part, two at a time; `run(name)` returns outcomes and output."""
    kept = Kept(suite, go_on)
    done = {}

    def one(name):
        part = kept.get(name)
        if part is None:
            began = time.monotonic()
            outcomes, output = run(name)
            part = Part(name, outcomes, round(time.monotonic() - began, 1))
            kept.put(part, output)
        return part

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        waiting = {pool.submit(one, name): name for name in names}
        try:
            for number, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                part = done[waiting[future]] = future.result()
                passed, failed, skipped = part.counts()
                why = {name or "WITHOUT A REASON": len(tests) for name, tests in explain(reasons, part).items()}
                say = ", ".join(f"{count} {name}" for name, count in why.items())
                progress(
                    f"{number} of {len(names)}: {part.name}: {passed} passed, {failed} failed, {skipped} skipped, "
                    f"{part.seconds:.0f} s{f' ({say})' if say else ''}"
                )
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise
    return [done[name] for name in names]


def progress(text):
    print(f"==> {text}", file=sys.stderr, flush=True)


def of_all(parts):
    return [sum(column) for column in zip(*(part.counts() for part in parts), strict=True)]


def table_of_parts(title, parts, reasons):
    """Rows of Markdown: what became of each part, and why its failures are ones."""
    lines = [f"| {title} | passed | failed | skipped | failed because of |", "|---|---:|---:|---:|---|"]
    for part in parts:
        why = ", ".join(
            f"{name or 'no known reason'} ({len(tests)})" for name, tests in sorted(explain(reasons, part).items(), key=str)
        )
        passed, failed, skipped = part.counts()
        if not passed and not failed and skipped == 1:
            why = cell(next(iter(part.of_kind("skipped").values())))
        lines.append(f"| {cell(part.name)} | {passed} | {failed} | {skipped} | {why} |")
    return lines


def table_of_reasons(parts, reasons):
    """Rows of Markdown: each reason with the number of tests that fail by it."""
    count = collections.Counter()
    for part in parts:
        count.update({name: len(tests) for name, tests in explain(reasons, part).items()})
    lines = ["| reason | tests | |", "|---|---:|---|"]
    named = {reason.name: reason.text for reason in reasons} | {None: "Not looked into yet."}
    for name, text in named.items():
        if count[name]:
            lines.append(f"| {name or 'no known reason'} | {count[name]} | {text} |")
    return lines


def table_of_skips(parts, least):
    """Rows of Markdown: what tests say that skip themselves, of those that say it often."""
    count = collections.Counter(text for part in parts for text in part.of_kind("skipped").values())
    often = [(text, number) for text, number in count.most_common() if number >= least]
    rest = sum(count.values()) - sum(number for _, number in often)
    return [
        "| the test's own words | tests |", "|---|---:|",
        *(f"| {cell(text)} | {number} |" for text, number in often),
        *([f"| others, each for fewer than {least} tests | {rest} |"] if rest else []),
    ]


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("*", "\\*") or "–"


def report_unexplained(parts, reasons):
    """Prints failures without a reason; true if there is none."""
    well = True
    for part in parts:
        for test, text in explain(reasons, part).get(None, []):
            well = False
            print(f"{part.name}: {test}: {text}")
    return well
