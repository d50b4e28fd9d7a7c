"""In the container: a package's own tests by pytest, with the arguments of pytest."""

import sys

import outcomes
import pytest


class Recorder:
    def pytest_collection_modifyitems(self, config, items):
        left_out = outcomes.ignored()
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]

    def pytest_collectreport(self, report):
        if report.failed:
            outcomes.record("failed", f"{report.nodeid} (import)", outcomes.shorten(self.last_line(report)))
        elif report.skipped and not report.result:
            outcomes.record("skipped", f"{report.nodeid} (import)", outcomes.shorten(report.longrepr[2]))

    def pytest_runtest_logstart(self, nodeid):
        outcomes.record("begin", nodeid)

    def pytest_runtest_logreport(self, report):
        if hasattr(report, "wasxfail") and not report.failed:
            outcomes.record("passed", report.nodeid)
        elif report.failed:
            outcomes.record("failed", report.nodeid, outcomes.shorten(self.last_line(report)))
        elif report.skipped:
            outcomes.record("skipped", report.nodeid, outcomes.shorten(report.longrepr[2]))
        elif report.when == "call":
            outcomes.record("passed", report.nodeid)

    def pytest_runtest_logfinish(self, nodeid):
        outcomes.record("end", nodeid)

    @staticmethod
    def last_line(report):
        """What went wrong, without where."""
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash:
            return crash.message
        lines = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
        return (lines or [report.longreprtext])[-1].removeprefix("E ")


sys.exit(pytest.main(sys.argv[1:], plugins=[Recorder()]))
