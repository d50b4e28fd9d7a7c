"""One call of containerd's suite: what it prints, as results."""

import dataclasses
import re

PASSED, FAILED, SKIPPED, HUNG = "passed", "failed", "skipped", "hung"
WORDS = {"PASS": PASSED, "FAIL": FAILED, "SKIP": SKIPPED}

# A container's output may stand before it on its line: some tests pass theirs through. The marker is Go's, by
# -test.v=test2json.
RESULT = re.compile(r"\x16 *--- (PASS|FAIL|SKIP): (\S+) \([0-9.]+s\)")
TIMED_OUT = re.compile(r"^panic: test timed out after .*?\n(?P<tests>(?:.*\n)*?)\n", re.MULTILINE)
RUNNING = re.compile(r"^\t\t(\S+) \(", re.MULTILINE)


@dataclasses.dataclass
class Results:
    """Of one runtime under one daemon: a word per test, also for parts of tests (`TestX/part`)."""

    words: dict = dataclasses.field(default_factory=dict)
    # Tests that have failed at first, and passed when they ran again.
    repeated: set = dataclasses.field(default_factory=set)

    def add(self, output):
        for word, name in RESULT.findall(output):
            if self.words.get(name) == FAILED and WORDS[word] == PASSED:
                self.repeated.add(name)
            self.words[name] = WORDS[word]
        if timed_out := TIMED_OUT.search(output):
            for name in RUNNING.findall(timed_out["tests"]):
                self.words[name] = HUNG
                self.words[name.partition("/")[0]] = HUNG

    def missing(self, tests):
        return [test for test in tests if test not in self.words]

    def failed(self, tests):
        """Those of the tests that have failed, alone or in one of their parts."""
        return [test for test in tests if self.words.get(test) == FAILED]


def arguments(tests, minutes):
    """Those of the test binary, for exactly these tests."""
    exactly = f"^({'|'.join(map(re.escape, tests))})$"
    return ["-test.root", f"-test.run={exactly}", "-test.v=test2json", f"-test.timeout={minutes}m"]
