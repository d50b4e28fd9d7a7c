"""scripts/check-text finds each kind of mistake, and nothing in a repository without one. Run by `make lint`."""

import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/check-text"
LIST = "word somebody: name the actor\nword that one: repeat the noun\ntype Wish: Request\nmodule live: containerd\n"


def check(files, refused=LIST):
    """Exit code and lines for a repository of these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**files, "tests/text/refused": refused}.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        subprocess.run(["git", "init", "--quiet", folder], check=True)
        done = subprocess.run([SCRIPT, folder], stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.splitlines()


class CheckText(unittest.TestCase):
    def assert_found(self, files, *mistakes):
        self.assertEqual(check(files), (1, list(mistakes)))

    def test_files_without_mistakes_pass(self):
        page = "# A `b` page\n\n[here](#a-b-page), [there](other.md), [web](https://example.com), [`t`](t.rs)\n"
        page += "\n```\n[code](is/no/link)\n```\nthe user `somebody`; see docs/page.md\n"
        code = f"// {'long ' * 30}\nfn t() -> &'static str {{\n    r#\"\n{'long ' * 30}\n\"#\n}}\nstruct Wishes;\n"
        self.assertEqual(check({"docs/page.md": page, "docs/other.md": "# Other\n", "docs/t.rs": code}), (0, []))

    def test_a_link_to_no_file_is_found(self):
        self.assert_found({"page.md": "# A\n\n[x](gone.md)\n"}, "page.md:3: no such file: gone.md")

    def test_a_link_out_of_the_repository_is_found(self):
        self.assert_found({"page.md": "[x](/etc)\n"}, "page.md:1: not in the repository: /etc")

    def test_a_link_to_no_heading_is_found(self):
        files = {"page.md": "[x](other.md#two)\n", "other.md": "# One\n\n```\n# two\n```\n"}
        self.assert_found(files, "page.md:1: no such heading: other.md#two")

    def test_a_test_that_is_only_mentioned_in_the_linked_file_is_found(self):
        files = {"page.md": "| [`renamed_test`](t.rs) |\n", "t.rs": "// once renamed_test\nfn other_test() {}\n"}
        self.assert_found(files, "page.md:1: renamed_test is not in t.rs")

    def test_a_trial_and_a_module_are_tests(self):
        files = {"page.md": "[`left`](main.rs), [`logs`](logs.rs)\n", "main.rs": 'test("left")\n', "logs.rs": "\n"}
        self.assertEqual(check(files), (0, []))

    def test_a_page_that_is_mentioned_and_not_there_is_found(self):
        self.assert_found({"Makefile": "all: ## as docs/gone.md says\n"}, "Makefile:1: no such page: docs/gone.md")

    def test_a_path_in_a_page_that_is_gone_is_found(self):
        self.assert_found({"page.md": "see `crates/gone/src`\n"}, "page.md:1: no such path: crates/gone/src")
        self.assertEqual(check({"CHANGELOG.md": "see `crates/gone/src`\n"}), (0, []))

    def test_a_refused_word_is_found(self):
        self.assert_found({"page.md": "Somebody did it.\n"}, "page.md:1: refused word: Somebody")
        self.assert_found({"run": "#!/bin/sh\n# for somebody\n"}, "run:2: refused word: somebody")

    def test_a_refused_word_is_found_in_names_and_across_lines(self):
        code = "fn what_somebody_wants() {\n    // It is the lock of\n    // that\n    /// one.\n}\n"
        self.assert_found({"t.rs": code}, "t.rs:1: refused word: somebody", "t.rs:3: refused word: that one")

    def test_an_exception_is_of_one_word_in_one_file(self):
        files = {"t.rs": "// somebody, that one\n", "u.rs": "// somebody\n"}
        mistakes = ["t.rs:1: refused word: that one", "u.rs:1: refused word: somebody"]
        self.assertEqual(check(files, LIST + "except t.rs somebody: a name\n"), (1, mistakes))

    def test_refused_names_of_types_and_modules_are_found(self):
        code = "mod live;\npub(crate) struct Wish {}\nlet wish = Wish {};\n"
        found = ("t.rs:1: refused name of a module: live", "t.rs:2: refused name of a type: Wish")
        self.assert_found({"t.rs": code}, *found)

    def test_a_second_type_of_one_name_is_found(self):
        files = {
            "crates/a/src/lib.rs": "pub struct Source;\nstruct Other;\n// struct Other\n",
            "crates/b/src/lib.rs": "/// The source.\npub(crate) enum Source {}\ntype Other = u8;\n",
            "tests/c/src/main.rs": "fn main() {\n    struct Source;\n}\n",
        }
        found = ["crates/b/src/lib.rs:2", "crates/b/src/lib.rs:3", "tests/c/src/main.rs:2"]
        first = ["Source: crates/a/src/lib.rs:1", "Other: crates/a/src/lib.rs:2", "Source: crates/a/src/lib.rs:1"]
        mistakes = [f"{at}: second type with the name {name}" for at, name in zip(found, first)]
        self.assert_found(files, *mistakes)
        pending = LIST + "pending-types crates/b/: later\npending-types tests/c/: later\n"
        self.assertEqual(check(files, pending), (0, []))

    def test_types_of_a_crates_tests_and_associated_types_may_have_the_name_of_another(self):
        code = "struct Source;\nimpl A for Source {\n    type Source = u8;\n}\n"
        tests = "struct Mine;\n#[cfg(test)]\nmod tests {\n    struct Source;\n}\n"
        files = {"crates/a/src/lib.rs": code, "crates/b/src/lib.rs": tests}
        for name in ("b/tests/main.rs", "b/src/tests.rs", "b/src/api_tests/server.rs"):
            files[f"crates/{name}"] = "struct Source;\n"
        self.assertEqual(check(files), (0, []))

    def test_a_long_line_of_code_is_found(self):
        self.assert_found({"t.rs": f"    let a = \"{'b' * 100}\";\n"}, "t.rs:1: 115 columns")

    def test_of_a_pending_file_only_links_are_checked(self):
        files = {"old/page.md": "Somebody. [x](gone.md)\n", "old.md": "Somebody.\n"}
        mistakes = ["old.md:1: refused word: Somebody", "old/page.md:1: no such file: gone.md"]
        self.assertEqual(check(files, LIST + "pending old/: later\n"), (1, mistakes))

    def test_a_leftover_of_a_merge_is_found(self):
        left = "<" * 7 + " HEAD\n"
        self.assert_found({"page.md": "one\n" + left}, "page.md:2: leftover of a merge")


if __name__ == "__main__":
    unittest.main()
