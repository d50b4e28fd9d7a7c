"""scripts/check-circles finds circles of modules, and nothing in crates without one. Run by `make boundaries`."""

import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/check-circles"
MANIFEST = '[package]\nname = "a"\n'


def check(files):
    """Exit code and lines for a crate `a` of these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {"a/Cargo.toml": MANIFEST, **files}.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([SCRIPT, folder], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.splitlines()


def library(**modules):
    """A library of these modules, each in a file."""
    root = "".join(f"mod {name};\n" for name in modules)
    return {"a/src/lib.rs": root, **{f"a/src/{name}.rs": text for name, text in modules.items()}}


class CheckCircles(unittest.TestCase):
    def assert_found(self, files, *mistakes):
        self.assertEqual(check(files), (1, list(mistakes)))

    def assert_files(self, files, *found):
        code, lines = check(files)
        self.assertEqual((code, [line.partition(":")[0] for line in lines]), (1, list(found)))

    def assert_none(self, files):
        self.assertEqual(check(files), (0, []))

    def test_two_modules_that_use_each_other_are_found(self):
        files = library(one="use crate::two::Two;\npub struct One;\n", two="pub struct Two(crate::one::One);\n")
        self.assert_found(
            files,
            "a/src/one.rs:1: a circle: it uses crate::two::Two of a/src/two.rs",
            "a/src/two.rs:1: a circle: it uses crate::one::One of a/src/one.rs",
        )

    def test_a_circle_of_three_is_found_and_who_only_uses_it_is_not(self):
        files = library(
            one="use crate::{two::{self, Two}, other};",
            two="use super::three;\npub struct Two;",
            three="fn f() { crate::one::f() }",
            four="use crate::one::f;",
        )
        self.assert_files(files, "a/src/one.rs", "a/src/three.rs", "a/src/two.rs")

    def test_modules_in_a_row_pass(self):
        files = library(one="use crate::two::*;", two="use crate::three::Three as T;", three="pub struct Three;")
        self.assert_none(files)

    def test_comments_and_texts_are_no_code(self):
        one = '// use crate::two::Two;\n/* crate::two::f() */\nconst A: &str = "crate::two::f";\n'
        one += "const B: &str = r#\"\ncrate::two::f\"#;\nconst C: char = '\"'; pub struct One<'a>(&'a u8);"
        self.assert_none(library(one=one, two="use crate::one::One;"))

    def test_a_child_may_use_its_parent_that_only_declares_it(self):
        files = library(one="use super::Parent;\npub struct One;")
        self.assert_none({**files, "a/src/lib.rs": "mod one;\npub use one::One;\npub struct Parent;\n"})

    def test_a_parent_that_uses_a_child_that_uses_it_is_found(self):
        files = library(one="use super::Parent;\npub fn f() {}")
        self.assert_found(
            {**files, "a/src/lib.rs": "mod one;\npub struct Parent;\nfn g() {\n    one::f()\n}\n"},
            "a/src/lib.rs:4: a circle: it uses one::f of a/src/one.rs",
            "a/src/one.rs:1: a circle: it uses super::Parent of a/src/lib.rs",
        )

    def test_a_name_belongs_to_the_module_that_defines_it(self):
        """`two` takes a name of `three` from `one`, which itself uses `two`."""
        one = "pub use crate::three::Three;\nuse crate::two::f;"
        self.assert_none(library(one=one, two="use crate::one::Three;", three="pub struct Three;"))

    def test_a_name_is_found_through_a_glob(self):
        one = "use super::*;\nfn f(_: Two) {}\npub struct One;"
        files = library(one=one, two="use crate::one::One;\npub struct Two;")
        self.assert_found(
            {**files, "a/src/lib.rs": "mod one;\nmod two;\npub use two::*;\n"},
            "a/src/one.rs:2: a circle: it uses Two of a/src/two.rs",
            "a/src/two.rs:1: a circle: it uses crate::one::One of a/src/one.rs",
        )

    def test_a_folder_is_one_module_for_those_beside_it(self):
        files = {
            "a/src/lib.rs": "mod inner;\nmod outer;",
            "a/src/inner/mod.rs": "mod one;\nmod two;\npub use two::Two;",
            "a/src/inner/one.rs": "use crate::outer::Outer;",
            "a/src/inner/two.rs": "pub struct Two;",
            "a/src/outer.rs": "use crate::inner::Two;\npub struct Outer;",
        }
        self.assert_found(
            files,
            "a/src/inner/one.rs:1: a circle: it uses crate::outer::Outer of a/src/outer.rs",
            "a/src/outer.rs:1: a circle: it uses crate::inner::Two of a/src/inner/two.rs",
        )

    def test_tests_of_a_module_do_not_count(self):
        one = 'pub struct One;\n#[cfg(test)]\n#[path = "x.rs"]\nmod tests;\n'
        one += "#[cfg(any(test, fuzzing))]\nuse crate::two::Two;\n"
        one += "#[cfg(test)]\nmod more {\n    use crate::two::Two;\n}\nfn f() {}\n"
        files = library(one=one, two="use crate::one::One;\npub struct Two;")
        self.assert_none({**files, "a/src/x.rs": "use crate::two::Two;"})

    def test_a_function_and_a_module_may_have_one_name(self):
        """The library's own function `run` is not what `run::Run` is of."""
        files = library(one="use crate::run::Run;\npub struct One;")
        self.assert_none({**files, "a/src/lib.rs": "mod one;\nuse other::run;\nfn run() -> one::One {}\n"})

    def test_a_variable_with_the_name_of_a_child_is_no_use(self):
        files = library(one="use super::Parent;")
        self.assert_none({**files, "a/src/lib.rs": "mod one;\npub struct Parent;\nfn f(one: u8) -> u8 {\n    one\n}\n"})

    def test_executables_and_tests_are_crates_of_their_own(self):
        files = {
            "a/Cargo.toml": MANIFEST + '[[test]]\nname = "t"\npath = "tests/model/all.rs"\n',
            "a/tests/model/all.rs": '#[path = "../s/mod.rs"]\nmod s;\nmod two;\npub fn f() { two::g() }\n',
            "a/tests/model/two.rs": "pub fn g() { crate::f() }\n",
            "a/tests/s/mod.rs": "mod one;\nfn f() { one::f() }\npub fn g() {}\n",
            "a/tests/s/one.rs": "pub fn f() { super::g() }\n",
        }
        of_test = ["a/tests/model/all.rs", "a/tests/model/two.rs", "a/tests/s/mod.rs", "a/tests/s/one.rs"]
        self.assert_files(files, *of_test)


if __name__ == "__main__":
    unittest.main()
