"""Tests of scripts/language: what it reads, and what it makes of it. No build: tests/containerd runs what it built."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest
import unittest.mock
from unittest import mock

REPO = pathlib.Path(__file__).resolve().parent.parent.parent


sys.path.insert(0, str(REPO / "scripts"))
import as_module  # noqa: E402

language = as_module.load(REPO / "scripts/language")

INDEX = """Package: zlib
Format: 3.0 (quilt)
Binary: zlib1g, zlib1g-dev
Version: 1:1.3-1
Checksums-Sha1:
 11 1 zlib_1.3-1.dsc
Checksums-Sha256:
 aa 2793 zlib_1.3-1.dsc
 bb 1325737 zlib_1.3.orig.tar.gz
Directory: pool/main/z/zlib

Package: zlib
Version: 1:1.3-1+deb13u1
Checksums-Sha256:
 cc 2793 zlib_1.3-1+deb13u1.dsc
 bb 1325737 zlib_1.3.orig.tar.gz

Package: zlib
Version: 1:1.3-1+deb13u1
Checksums-Sha256:
 cc 2793 zlib_1.3-1+deb13u1.dsc
 bb 1325737 zlib_1.3.orig.tar.gz
"""

RECIPE = """
name = "lang"
version = "1.0"
tools = ["make"]
[[part]]
package = "library"
licence = "Zlib"
steps = ["make"]
[[part]]
package = "lang1"
licence = "MIT AND LicenseRef-own"
needs = ["library"]
steps = ["sh /recipe/install"]
[[part.patch]]
file = "patches/a.patch"
reason = "because"
upstream = "sent"
"""


PREINIT = 'preinit = { module = "usr/bin/lang1", environment = { NAME = "value" } }\n'


class Recipes(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        (self.folder / "patches").mkdir()
        (self.folder / "patches/a.patch").write_text("a patch")
        (self.folder / "install").write_text("make install")

    def read(self, text, profile=""):
        (self.folder / "recipe.toml").write_text(text)
        return language.read_recipe(self.folder, profile)

    def assert_refused(self, text, message):
        with self.assertRaisesRegex(language.Failed, message):
            self.read(text)

    def steps(self, recipe, version="1", tools="make 4"):
        sources = [source(part.package, version if part.package == "library" else "1") for part in recipe.parts]
        return language.part_steps(recipe, language.Tools(pathlib.Path("/opt/sdk"), (), tools), sources)

    def keys(self, *arguments, **named):
        return {package: steps[-1].key for package, steps in self.steps(*arguments, **named).items()}

    def test_recipe_is_read_with_its_parts_in_order(self):
        recipe = self.read(RECIPE)
        self.assertEqual([part.package for part in recipe.parts], ["library", "lang1"])
        self.assertEqual(recipe.parts[1].patches, ("patches/a.patch",))

    def test_sources_of_registries_are_named_with_version_and_checksum(self):
        archive = 'version = "1.2"\nsha256 = "ab"\nlicence = "MIT"\nlicences = ["LICENSE"]'
        recipe = self.read(RECIPE + f'[[part]]\npypi = "parcel"\n{archive}\n[[part]]\ncrate = "box"\n{archive}\n[[part]]\nname = "all"')
        self.assertEqual([part.kind for part in recipe.parts], ["deb", "deb", "pypi", "cargo", "none"])
        alone = self.read(RECIPE + '[[part]]\norig = "edit"\nlicence = "MIT"\nlicences = ["COPYING"]')
        self.assertEqual([part.kind for part in alone.parts], ["deb", "deb", "orig"])
        self.assert_refused(RECIPE + '[[part]]\norig = "edit"\nlicence = "MIT"', "part edit: licences is missing")
        self.assertEqual((recipe.parts[2].version, recipe.parts[2].sha256), ("1.2", "ab"))
        self.assert_refused(RECIPE + '[[part]]\npypi = "parcel"\nlicence = "MIT"', "part parcel: version is missing")
        self.assert_refused(RECIPE + '[[part]]\npypi = "parcel"\ncrate = "parcel"', "part 3 needs one of package, orig, pypi, crate, name")
        self.assert_refused(RECIPE + '[[part]]\nname = "all"\nlicence = "MIT"', "part all: unknown name licence")

    def test_profile_leaves_out_what_it_names(self):
        slim = '[profile.slim]\nwithout = ["library"]\ntools_without = ["make"]\npreinit = false\n'
        text = PREINIT + RECIPE.replace("[[part]]", slim + "[[part]]", 1)
        recipe = self.read(text, "slim")
        self.assertEqual([(part.package, part.needs) for part in recipe.parts], [("lang1", ())])
        self.assertEqual((recipe.version, recipe.tools, recipe.preinit), ("1.0-slim", (), {}))
        whole = self.read(text)
        self.assertEqual((len(whole.parts), whole.version, whole.tools), (2, "1.0", ("make",)))
        with self.assertRaisesRegex(language.Failed, "there is no profile slimmer; known are slim"):
            self.read(text, "slimmer")
        with self.assertRaisesRegex(language.Failed, "profile slim: without names libary, which the recipe does not have"):
            self.read(text.replace('without = ["library"]', 'without = ["libary"]'), "slim")

    def test_part_for_one_profile_is_no_part_of_the_others(self):
        only = '[[part]]\nname = "counters"\nonly = "slim"\n'
        text = RECIPE.replace("[[part]]", "[profile.slim]\nwithout = []\n" + only + "[[part]]", 1)
        text = text.replace('needs = ["library"]', 'needs = ["library", "counters"]')
        self.assertEqual([part.package for part in self.read(text, "slim").parts], ["counters", "library", "lang1"])
        self.assertEqual([(part.package, part.needs) for part in self.read(text).parts], [("library", ()), ("lang1", ("library",))])
        self.assert_refused(text.replace('only = "slim"', 'only = "slimmer"'), "part counters: only names slimmer, which is no profile")

    def test_variable_of_a_profile_changes_the_steps_that_name_it(self):
        (self.folder / "counts").write_text("1")
        variables = '[environment]\nOPTIMIZE = "-O3 /recipe/counts"\n[profile.slim]\nwithout = []\nenvironment = { OPTIMIZE = "" }\n'
        text = RECIPE.replace("[[part]]", variables + "[[part]]", 1).replace("sh /recipe/install", "sh /recipe/install $OPTIMIZE")
        whole, slim = self.read(text), self.read(text, "slim")
        self.assertEqual((whole.environment, slim.environment), ({"OPTIMIZE": "-O3 /recipe/counts"}, {"OPTIMIZE": ""}))
        keys = self.keys(whole)
        self.assertEqual(keys["library"], self.keys(slim)["library"])
        self.assertNotEqual(keys["lang1"], self.keys(slim)["lang1"])
        (self.folder / "counts").write_text("2")
        self.assertEqual(keys["library"], self.keys(whole)["library"])
        self.assertNotEqual(keys["lang1"], self.keys(whole)["lang1"])
        self.assertEqual([step.environment for step in self.steps(whole)["library"]], [{}, {}])
        self.assertEqual(self.steps(whole)["lang1"][-1].environment, whole.environment)
        braces = self.read(text.replace("$OPTIMIZE", "${OPTIMIZE}"))
        self.assertEqual(self.steps(braces)["lang1"][-1].environment, whole.environment)
        longer = self.read(text.replace("$OPTIMIZE", "$OPTIMIZE_LINK"))
        self.assertEqual(self.steps(longer)["lang1"][-1].environment, {})
        for mistake, message in (
            ("{ OPTIMISE", "profile slim: environment: OPTIMISE is not in the recipe's own environment"),
            ("{ CFLAGS", "profile slim: environment: CFLAGS cannot be set"),
            ("{ OPTIMIZE = 1, A", "profile slim: environment: OPTIMIZE has to be a str"),
        ):
            self.assert_refused(text.replace("{ OPTIMIZE", mistake), message)
        self.assert_refused(text.replace("without = []", 'without = "lang1"'), "profile slim: without has to be a list")

    def test_recipe_with_a_mistake_is_refused_with_its_place(self):
        self.assert_refused(RECIPE.replace("needs =", "need ="), "part lang1: unknown name need; known are")
        self.assert_refused(RECIPE.replace('licence = "Zlib"', ""), "part library: licence is missing")
        self.assert_refused(RECIPE.replace('["library"]', '["libary"]'), "needs libary, which is no part before it")
        self.assert_refused(RECIPE.replace('reason = "because"', ""), "patch: reason is missing")
        self.assert_refused(RECIPE.replace("patches/a.patch", "patches/b.patch"), "patches/b.patch is no file")
        self.assert_refused(RECIPE.replace('["make"]', '"make"'), "tools has to be a list")
        self.assert_refused("name = ", "cannot read")
        self.assert_refused(PREINIT.replace("module", "modul") + RECIPE, "preinit: unknown name modul")

    def test_recipes_of_the_repository_are_read_and_use_every_patch_in_their_folder(self):
        recipes = sorted((REPO / "images/languages").iterdir())
        self.assertTrue(recipes)
        for folder in recipes:
            recipe = language.read_recipe(folder)
            used = {patch for part in recipe.parts for patch in part.patches}
            self.assertEqual(used, {f"patches/{path.name}" for path in (folder / "patches").iterdir()})

    def test_key_of_a_part_depends_on_everything_that_its_bytes_depend_on(self):
        recipe = self.read(RECIPE)
        keys = self.keys(recipe)
        self.assertEqual(keys, self.keys(recipe))
        # A part depends on those that it needs, with their versions.
        newer = self.keys(recipe, version="2")
        self.assertNotEqual(keys["library"], newer["library"])
        self.assertNotEqual(keys["lang1"], newer["lang1"])
        self.assertNotEqual(keys["library"], self.keys(recipe, tools="make 5")["library"])
        (self.folder / "patches/a.patch").write_text("another patch")
        self.assertEqual(keys["library"], self.keys(recipe)["library"])
        self.assertNotEqual(keys["lang1"], self.keys(recipe)["lang1"])
        (self.folder / "patches/a.patch").write_text("a patch")
        (self.folder / "install").write_text("make installed")
        self.assertNotEqual(keys["lang1"], self.keys(recipe)["lang1"])

    def test_key_of_an_image_depends_on_what_is_copied_into_it(self):
        recipe = self.read(RECIPE)
        more = self.read('copied = { tzdata = "LicenseRef-public-domain" }' + RECIPE)
        steps = self.steps(recipe)
        self.assertNotEqual(language.image_key(recipe, steps), language.image_key(more, steps))
        initialized = language.image_key(recipe, steps, pathlib.Path("lang-1"))
        self.assertNotEqual(language.image_key(recipe, steps), initialized)

    def test_initialized_interpreter_is_made_once_for_each_interpreter_and_tool(self):
        recipe = self.read(PREINIT + RECIPE)
        steps = self.steps(recipe)
        built = {"lang1": self.folder / "built"}
        (self.folder / "built/usr/bin").mkdir(parents=True)
        (self.folder / "built/usr/bin/lang1").write_text("module")
        tool = self.folder / "tool"
        # Writes its arguments, and a line to a list of its calls.
        tool.write_text('#!/bin/sh\necho call >>"$(dirname "$0")/calls"\necho "$1 $3 $4 $RANDOM_TEXT" >"$2"\n')
        tool.chmod(0o755)
        with mock.patch.object(language, "CACHE", self.folder), mock.patch.object(language, "PREINIT", tool):
            made = language.initialize(recipe, steps, built, again=False)
            module = self.folder / "built/usr/bin/lang1"
            self.assertEqual(made.read_text().split(), [str(module), f"--root={self.folder / 'built'}", "--env=NAME=value"])
            self.assertEqual(language.initialize(recipe, steps, built, again=False), made)
            self.assertEqual((self.folder / "calls").read_text().count("call"), 1)
            self.assertEqual(language.initialize(recipe, steps, built, again=True), made)
            with mock.patch.dict("os.environ", RANDOM_TEXT="another"), self.assertRaisesRegex(language.Failed, "differs"):
                language.initialize(recipe, steps, built, again=True)
            tool.write_text(tool.read_text() + "# newer\n")
            self.assertNotEqual(language.initialize(recipe, steps, built, again=False), made)
            tool.write_text("#!/bin/sh\nexit 1\n")
            with self.assertRaisesRegex(language.Failed, "cannot initialize"):
                language.initialize(recipe, steps, built, again=False)
            tool.unlink()
            with self.assertRaisesRegex(language.Failed, "run make images, which builds it"):
                language.initialize(recipe, steps, built, again=False)
            self.assertIsNone(language.initialize(self.read(RECIPE), steps, built, again=False))

    def test_key_of_a_step_depends_on_no_file_that_only_a_later_step_names(self):
        recipe = self.read(RECIPE)
        before = self.steps(recipe)["lang1"]
        (self.folder / "install").write_text("make installed")
        after = self.steps(recipe)["lang1"]
        self.assertEqual([first.key == second.key for first, second in zip(before, after)], [True, False])


def source(package, version="1"):
    return language.Source(package, version, {f"{package}_{version}.dsc": "00", f"{package}.orig.tar.gz": "11"})


class Sources(unittest.TestCase):
    def test_archive_of_pypi_is_fetched_and_checked_against_the_recipe(self):
        with tempfile.TemporaryDirectory() as name, unittest.mock.patch.dict(os.environ):
            folder = pathlib.Path(name)
            os.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "index"), "PIP_CONFIG_FILE": os.devnull}
            for part in ("index", "downloads"):
                (folder / part).mkdir()
            with tarfile.open(folder / "index/parcel-1.2.tar.gz", "w:gz") as archive:
                archive.addfile(tarfile.TarInfo("parcel-1.2/PKG-INFO"))
            sha256 = hashlib.sha256((folder / "index/parcel-1.2.tar.gz").read_bytes()).hexdigest()
            part = language.Part("parcel", "pypi", "1.2", sha256, "MIT", ("LICENSE",), (), {}, (), ())
            with contextlib.redirect_stderr(io.StringIO()):
                source = language.fetch_registry(part, folder / "downloads")
                self.assertEqual(source, language.Source("parcel", "1.2", {"parcel-1.2.tar.gz": sha256}, "pypi"))
                self.assertTrue((folder / "downloads/parcel-1.2.tar.gz").exists())
                with self.assertRaisesRegex(language.Failed, "its SHA-256 is not the one of the recipe"):
                    language.fetch_registry(dataclasses.replace(part, sha256="00"), folder / "downloads")
                with self.assertRaisesRegex(language.Failed, "cannot find parcel 1.3"):
                    language.fetch_registry(dataclasses.replace(part, version="1.3"), folder / "downloads")
            self.assertEqual(list((folder / "downloads").iterdir()), [])

    def test_crates_of_a_lock_are_archives_with_checksums(self):
        lock = (
            'version = 4\n[[package]]\nname = "own"\nversion = "1.0.0"\n'
            '[[package]]\nname = "box-2d"\nversion = "0.1.0+c-3"\nchecksum = "ab"\n'
        )
        self.assertEqual(language.locked_crates(lock), {"box-2d-0.1.0+c-3.crate": "ab"})

    def test_versions_are_listed_once_the_newest_first(self):
        sources = language.read_index(INDEX)
        self.assertEqual([each.version for each in sources], ["1:1.3-1+deb13u1", "1:1.3-1"])
        self.assertEqual(sources[1].files, {"zlib_1.3-1.dsc": "aa", "zlib_1.3.orig.tar.gz": "bb"})
        self.assertEqual(sources[1].main, "zlib_1.3-1.dsc")

    def test_archive_of_upstream_is_taken_alone(self):
        older = language.read_index(INDEX)[1]
        alone = older.orig()
        self.assertEqual((alone.main, alone.files), ("zlib_1.3.orig.tar.gz", {"zlib_1.3.orig.tar.gz": "bb"}))
        self.assertIsNone(language.Source("zlib", "1", {"zlib_1.dsc": "aa", "zlib_1.tar.xz": "bb"}).orig())
        # Scanners compare Debian's version with what Debian has mended by a patch.
        self.assertEqual(language.purl(alone), "pkg:generic/zlib@1%3A1.3?checksum=sha256:bb")

    def test_address_of_an_archive_is_found_by_its_name(self):
        name = "edit_1.0+ds.orig.tar.xz"
        source = language.Source("edit", "1.0+ds-1", {name: "ab"}, "orig")
        said = f"'https://host/pool/edit_1.0%2bds-1.dsc' edit_1.0+ds-1.dsc 1 SHA256:cd\n'https://host/pool/edit_1.0%2bds.orig.tar.xz' {name} 2 SHA256:ab\n"
        with tempfile.TemporaryDirectory() as folder:
            apt = pathlib.Path(folder, "apt-get")
            apt.write_text(f'#!/bin/sh\necho "$*" >&2\ncat <<E\n{said}E\n')
            apt.chmod(0o755)
            script = language.fetch_script(source, "--quiet").replace("/usr/lib/apt/apt-helper", "echo")
            run = subprocess.run(
                ["sh", "-ec", script], env={"PATH": f"{folder}:{os.environ['PATH']}"}, text=True, capture_output=True, check=True,
            )
        self.assertEqual(run.stderr, "--quiet --print-uris source edit=1.0+ds-1\n")
        self.assertEqual(run.stdout, f"--quiet download-file https://host/pool/edit_1.0%2bds.orig.tar.xz {name} SHA256:ab\n")

    def test_file_with_another_content_than_the_index_names_is_removed(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            (folder / "a.dsc").write_bytes(b"")
            empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            self.assertTrue(language.whole(folder, language.Source("a", "1", {"a.dsc": empty})))
            self.assertFalse(language.whole(folder, language.Source("a", "1", {"a.dsc": "aa"})))
            self.assertFalse((folder / "a.dsc").exists())


class BillOfMaterials(unittest.TestCase):
    def test_every_source_is_in_it_with_version_checksum_and_licence(self):
        patches = ("patches/a.patch",)
        parts = [
            language.Part("library", "deb", "", "", "Zlib", (), (), {}, (), ()),
            language.Part("lang1", "deb", "", "", "MIT AND LicenseRef-own", (), ("library",), {"debian.diff": "x"}, patches, ()),
            language.Part("parcel", "pypi", "1.2", "ab", "MIT", ("LICENSE",), (), {}, (), ()),
            language.Part("all", "none", "", "", "", (), ("lang1", "parcel"), {}, (), ()),
        ]
        parcel = language.Source("parcel", "1.2", {"parcel-1.2.tar.gz": "ab", "box-2d-0.1.crate": "cd"}, "pypi")
        nothing = language.Source("all", "1.0", {}, "none")
        recipe = language.Recipe("lang", "1.0", pathlib.Path("/"), (), {}, {}, {}, tuple(parts))
        tools = language.Tools(pathlib.Path("/opt/sdk"), (), "wasi-libc 1\nlibclang-rt-22-dev-wasm32 2\n")
        bill = language.bill_of_materials(recipe, tools, [source("library", "1:2+b"), source("lang1"), parcel, nothing], "key")
        bill = json.loads(json.dumps(bill))
        by_name = {each["name"]: each for each in bill["packages"]}
        self.assertEqual(by_name["library"]["versionInfo"], "1:2+b")
        self.assertEqual(by_name["library"]["licenseDeclared"], "Zlib")
        self.assertEqual(
            by_name["library"]["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/library@1%3A2%2Bb?arch=source&distro=trixie",
        )
        self.assertIn("without Debian's debian.diff; with patches/a.patch", by_name["lang1"]["comment"])
        self.assertEqual(by_name["wasi-libc"]["versionInfo"], "1")
        self.assertEqual(by_name["parcel"]["externalRefs"][0]["referenceLocator"], "pkg:pypi/parcel@1.2")
        self.assertEqual(by_name["parcel"]["checksums"][0]["checksumValue"], "ab")
        self.assertEqual(by_name["box-2d"]["externalRefs"][0]["referenceLocator"], "pkg:cargo/box-2d@0.1")
        self.assertNotIn("all", by_name)
        # What SPDX 2.3 demands of a document.
        identifiers = [each["SPDXID"] for each in bill["packages"]]
        self.assertEqual(len(identifiers), len(set(identifiers)))
        for identifier in identifiers:
            self.assertRegex(identifier, r"^SPDXRef-[A-Za-z0-9.-]+$")
        known = {*identifiers, "SPDXRef-DOCUMENT"}
        for each in bill["relationships"]:
            self.assertLessEqual({each["spdxElementId"], each["relatedSpdxElement"]}, known)
        self.assertEqual([each["licenseId"] for each in bill["hasExtractedLicensingInfos"]], ["LicenseRef-own"])
        for name in ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"):
            self.assertIn(name, bill)


if __name__ == "__main__":
    unittest.main()
