"""Where the tests come from: CPython's from the source that its image is built from, a package's from its source
distribution, both as scripts/language fetches and keeps them."""

import shutil
import subprocess
import sys
import tarfile
import tempfile

from containers import CACHE, REPO, USER, Failed

sys.path.insert(0, str(REPO / "scripts"))
import as_module  # noqa: E402

language = as_module.load(REPO / "scripts/language")


def library_tests():
    """The folder with CPython's tests: Lib/test of the source with Debian's patches and ours, compiled."""
    with language.one_at_a_time():
        recipe = language.read_recipe(REPO / "images/languages/python")
        log = language.CACHE / "logs/python-tests.log"
        log.unlink(missing_ok=True)
        tools = language.make_tools(recipe, log)
        sources = language.resolve(recipe, tools, log, update=False)
        number = [part.package for part in recipe.parts].index("python3.13")
        part, source = recipe.parts[number], sources[number]
        unpack = language.part_steps(recipe, tools, sources)[part.package][0]
        keep = f"""
cp -r {language.BUILD}/source/Lib/test/. /tests/
python3.13 -I -m compileall -q -x 'bad|lib2to3' --invalidation-mode unchecked-hash -s /tests -p /usr/local/lib/python3.13/test /tests
chmod -R go+rX /tests"""
        kept = CACHE / "library" / language.digest(unpack.key, keep)
        if not kept.exists():
            language.progress(f"unpacking the tests of {source.package} {source.version}")
            with language.scratch_folder() as scratch:
                tests = scratch / "tests"
                tests.mkdir()
                language.Root(scratch / "root", tools.lowers, log).run(
                    unpack.script + keep, environment=language.ENVIRONMENT, binds=[
                        (language.CACHE / "downloads", "/downloads"), (recipe.folder, "/recipe"), (tests, "/tests"),
                    ],
                )
                tests.chmod(0o755)
                language.keep(tests, kept)
        return kept, source.version


def source_distribution(name, version, sha256):
    """The unpacked source distribution of PyPI's package; it has that hash."""
    kept = CACHE / "sources" / f"{name}-{version}"
    if kept.exists():
        return kept
    downloads = CACHE / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    source = language.Source(name, version, {f"{name}-{version}.tar.gz": sha256}, "pypi")
    try:
        if not language.whole(downloads, source):
            language.fetch_from_pypi(source, downloads / source.main)
    except language.Failed as failure:
        raise Failed(str(failure)) from failure
    if not language.whole(downloads, source):
        raise Failed(f"cannot fetch {name} {version}: its SHA-256 is not {sha256}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        with tarfile.open(downloads / source.main) as archive:
            top = archive.getnames()[0].split("/")[0]
            archive.extractall(scratch, filter="data")
        hand_over(f"{scratch}/{top}")
        shutil.move(f"{scratch}/{top}", kept)
    return kept


def hand_over(folder):
    """Gives a folder to the user of the containers: tests write beside themselves, and change times and modes."""
    subprocess.run(["chown", "-R", USER, folder], check=True)
    subprocess.run(["chmod", "-R", "u+rwX", folder], check=True)
