"""What the suites of Python make of what happens in containers, without a container. Run by `make lint`."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import containers  # noqa: E402
import results  # noqa: E402

TESTS = """
import unittest

class Case(unittest.TestCase):
    def test_passes(self):
        pass
    def test_fails(self):
        self.assertEqual(1, 2)
    def test_has_parts(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertEqual(number, 0)
    @unittest.skip("not today")
    def test_is_skipped(self):
        raise AssertionError
    @unittest.expectedFailure
    def test_fails_as_expected(self):
        raise AssertionError
    def test_runs_another(self):
        unittest.FunctionTestCase(lambda: 1 / 0).run(unittest.TestResult())
    def test_zz_ends_the_process(self):
        os._exit(134)

class Unprepared(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no such thing")
    def test_never_begins(self):
        pass

import os, sys
import outcomes
outcomes.watch_unittest()
unittest.main(argv=["x", *sys.argv[1:]])
"""


def recorded(*names, ignored=()):
    """Outcomes of tests of TESTS, and the test that began and did not end."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "tests.py").write_text(TESTS)
        (folder / "ignored").write_text("".join(f"__main__.{name}\n" for name in ignored))
        environment = os.environ | {
            "PYTHONPATH": str(HERE / "guest"), "OUTCOMES": str(folder / "outcomes"), "IGNORED": str(folder / "ignored"),
        }
        subprocess.run(
            [sys.executable, folder / "tests.py", *names], env=environment, check=False, stderr=subprocess.DEVNULL,
        )
        found = {}
        at = containers.add_outcomes(found, folder / "outcomes")
        return {test.removeprefix("__main__."): outcome for test, outcome in found.items()}, at


class Outcomes(unittest.TestCase):
    def test_every_kind_of_outcome_is_recorded(self):
        names = ["passes", "fails", "has_parts", "is_skipped", "fails_as_expected", "runs_another"]
        found, at = recorded(*(f"Case.test_{name}" for name in names), "Unprepared")
        self.assertIsNone(at)
        self.assertEqual(found, {
            "Case.test_passes": ("passed", ""),
            "Case.test_fails": ("failed", "AssertionError: 1 != 2"),
            "Case.test_has_parts": ("failed", "AssertionError: 1 != 0"),
            "Case.test_is_skipped": ("skipped", "not today"),
            "Case.test_fails_as_expected": ("passed", ""),
            "Case.test_runs_another": ("passed", ""),
            "setUpClass (__main__.Unprepared)": ("failed", "OSError: no such thing"),
        })

    def test_test_that_ends_the_process_is_named(self):
        found, at = recorded("Case")
        self.assertEqual(at, "__main__.Case.test_zz_ends_the_process")
        self.assertEqual(len(found), 6)

    def test_ignored_tests_do_not_run(self):
        found, at = recorded("Case", ignored=["Case.test_zz_ends_the_process", "Case.test_fails"])
        self.assertIsNone(at)
        self.assertNotIn("Case.test_fails", found)
        self.assertEqual(len(found), 5)

    def test_failure_of_a_test_is_not_forgotten(self):
        with tempfile.NamedTemporaryFile("w") as file:
            for event in ("failed", "x", "first"), ("failed", "x", "second"), ("passed", "x", ""):
                file.write(json.dumps(event) + "\n")
            file.flush()
            found = {}
            containers.add_outcomes(found, pathlib.Path(file.name))
        self.assertEqual(found, {"x": ("failed", "first")})


class Explanations(unittest.TestCase):
    def reasons(self, text):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(textwrap.dedent(text))
            file.flush()
            return results.read_reasons(pathlib.Path(file.name))

    REASONS = """
        [[reason]]
        name = "threads"
        text = "No threads."
        error = "start new thread"
        [[reason]]
        name = "one test"
        text = "Of one file."
        test = '^test_a .*only$'
    """

    def test_failure_has_the_first_reason_that_matches(self):
        part = results.Part("test_a", {
            "by_error": ("failed", "RuntimeError: can't start new thread"),
            "only": ("failed", "x"),
            "other": ("failed", "x"),
            "well": ("passed", ""),
        })
        explained = results.explain(self.reasons(self.REASONS), part)
        self.assertEqual({name: [test for test, _ in tests] for name, tests in explained.items()}, {
            "threads": ["by_error"], "one test": ["only"], None: ["other"],
        })

    def test_reason_that_would_explain_everything_is_refused(self):
        with self.assertRaisesRegex(containers.Failed, "a test or an error"):
            self.reasons('[[reason]]\nname = "x"\ntext = "y"\n')

    def test_table_names_failures_without_a_reason(self):
        part = results.Part("test_b", {"other": ("failed", "x"), "well": ("passed", "")})
        table = results.table_of_parts("file", [part], self.reasons(self.REASONS))
        self.assertEqual(table[2], "| test_b | 1 | 1 | 0 | no known reason (1) |")


if __name__ == "__main__":
    unittest.main()
