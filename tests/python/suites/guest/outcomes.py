"""In the container: writes what becomes of each test to the file that OUTCOMES names, one line per event.

A trap ends the process at once, so every line is written before the test goes on: the last test that began and did
not end is where it happened. Tests that IGNORED names, one per line, are left out: the host has their outcome.
"""

import json
import os
import unittest

LONGEST = 500


def record(event, test, text=""):
    # Opened each time, because there are tests that close every descriptor.
    line = json.dumps([event, test, text]).encode() + b"\n"
    descriptor = os.open(os.environ["OUTCOMES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def shorten(text):
    return " ".join(str(text).split())[:LONGEST]


def of_exception(error):
    kind, value, _ = error
    return shorten(f"{kind.__name__}: {value}")


def ignored():
    path = os.environ.get("IGNORED")
    if not path:
        return frozenset()
    with open(path) as file:
        return frozenset(file.read().splitlines())


def watch_unittest():
    """The first result of unittest records what it is told; every test that is ignored does nothing.

    Other results are of tests that run tests.
    """
    result, first = unittest.TestResult, []

    def recording(name, describe):
        told = getattr(result, name)

        def method(self, *arguments):
            if not first:
                first.append(self)
            described = describe(*arguments) if first[0] is self else None
            if described is not None:
                record(*described)
            return told(self, *arguments)

        setattr(result, name, method)

    def of_skip(test, reason):
        # A part of a test that is skipped says nothing of the rest.
        return None if hasattr(test, "test_case") else ("skipped", test.id(), shorten(reason))

    def of_part(test, _, error):
        return error and ("failed", test.id(), of_exception(error))

    recording("startTest", lambda test: ("begin", test.id()))
    recording("stopTest", lambda test: ("end", test.id()))
    recording("addSuccess", lambda test: ("passed", test.id()))
    recording("addExpectedFailure", lambda test, _: ("passed", test.id()))
    recording("addError", lambda test, error: ("failed", test.id(), of_exception(error)))
    recording("addFailure", lambda test, error: ("failed", test.id(), of_exception(error)))
    recording("addUnexpectedSuccess", lambda test: ("failed", test.id(), "unexpected success"))
    recording("addSubTest", of_part)
    recording("addSkip", of_skip)

    run, left_out = unittest.TestCase.run, ignored()

    def run_unless_ignored(self, result=None):
        return result if self.id() in left_out else run(self, result)

    # A frame of the stack more, which tests of warnings see.
    if left_out:
        unittest.TestCase.run = run_unless_ignored
