//! CPython 3.13 begins with the memory that it had when its image was built: what a new process finds out at its
//! start, a container still finds out.

use std::fs;

use crate::Outcome;
use crate::guests::PYTHON;
use crate::world::{CtrContainer, World};

fn python<'world>(world: &'world World, arguments: &[&str]) -> CtrContainer<'world> {
    world
        .container(PYTHON)
        .arguments(&[&["python3"], arguments].concat())
}

fn printed(container: CtrContainer<'_>) -> Outcome<String> {
    Ok(container.run()?.expect_code(0)?.stdout)
}

pub(super) fn two_starts_have_other_hashes_and_random_numbers(world: &World) -> Outcome {
    let text = "import random, tempfile, uuid\n\
                print(hash('x'), hash(b'y'), random.random(), uuid.uuid4(), tempfile.mktemp())";
    let (first, second) = (
        printed(python(world, &["-c", text]))?,
        printed(python(world, &["-c", text]))?,
    );
    let pairs = first.split_whitespace().zip(second.split_whitespace());
    let same: Vec<_> = pairs.filter(|(one, other)| one == other).collect();
    if first.split_whitespace().count() != 5 || !same.is_empty() {
        return Err(format!("{first}{second}").into());
    }
    Ok(())
}

pub(super) fn hash_seed_is_obeyed(world: &World) -> Outcome {
    let text = "import sys; assert sys.hash_info.algorithm == 'siphash13'; \
                print(hash('x'), hash(b'long enough'), sys.flags.hash_randomization)";
    let with = |seed: &str, option: &[&str]| {
        let variable = format!("PYTHONHASHSEED={seed}");
        let container = python(world, &[option, &["-c", text]].concat());
        printed(container.options(&["--env", &variable]))
    };
    for seed in ["0", "42", "4294967295"] {
        let resumed = with(seed, &[])?;
        // With -O, a container initializes its interpreter itself.
        let initialized = with(seed, &["-O"])?;
        if resumed != initialized || resumed != with(seed, &[])? {
            return Err(format!("seed {seed}: {resumed}{initialized}").into());
        }
    }
    let refused = python(world, &["-c", "pass"])
        .options(&["--env", "PYTHONHASHSEED=x"])
        .run()?
        .expect_code(1)?;
    refused.expect_stderr(&["PYTHONHASHSEED must be"])?;
    Ok(())
}

/// Every key of every dictionary and set, and every attribute of every class, is found.
pub(super) fn every_key_is_found_after_the_hashes_are_renewed(world: &World) -> Outcome {
    let text = r#"
import gc, json, sys
gc.unfreeze()
seen, todo = set(), [gc.get_objects(), sys.modules]
counts = {dict: 0, set: 0, type: 0}
todo += [each for each in object.__subclasses__()]
while todo:
    each = todo.pop()
    if id(each) in seen:
        continue
    seen.add(id(each))
    if isinstance(each, dict):
        counts[dict] += 1
        for key in list(dict.keys(each)):
            assert dict.__contains__(each, key), (key, type(each))
            if type(key) is str and key:
                # Another object with the same text.
                assert dict.__contains__(each, key[:1] + key[1:]), key
    elif isinstance(each, (set, frozenset)):
        counts[set] += 1
        for key in list(each):
            assert key in each, key
    elif isinstance(each, type):
        counts[type] += 1
        for name in list(type.__getattribute__(each, "__dict__")):
            assert name in each.__dict__, (each, name)
    if each is not todo and each is not seen:
        todo += gc.get_referents(each)
assert counts[dict] > 500 and counts[set] > 50 and counts[type] > 300, counts
assert all(sys.intern(name[:1] + name[1:]) == name for name in dir(json))
"#;
    for seed in ["random", "0", "7"] {
        let container = python(world, &["-c", text]);
        printed(container.options(&["--env", &format!("PYTHONHASHSEED={seed}")]))?;
    }
    Ok(())
}

pub(super) fn arguments_environment_and_directory_are_the_containers(world: &World) -> Outcome {
    let text = r#"
import os, sys
assert sys.argv == ["-c", "one", "zwei ü"], sys.argv
assert sys.orig_argv[0] == "python3" and sys.orig_argv[-1] == "zwei ü", sys.orig_argv
assert os.environ["GREETING"] == "grüße" and os.environb[b"GREETING"] == "grüße".encode()
assert "TZ" not in os.environ and os.environ["PATH"].startswith("/usr/local/bin")
os.environ["LATER"] = "1"
assert os.getenv("LATER") == "1"
assert os.getcwd() == "/usr/local/lib" and os.path.exists("python3.13"), os.getcwd()
assert sys.path[0] == "", sys.path
assert os.getpid() != 0
assert sys.executable == "/usr/local/bin/python3", sys.executable
"#;
    let arguments = ["-c", text, "one", "zwei ü"];
    printed(python(world, &arguments).options(&[
        "--env",
        "GREETING=grüße",
        "--cwd",
        "/usr/local/lib",
    ]))?;
    Ok(())
}

pub(super) fn options_are_obeyed(world: &World) -> Outcome {
    let folder = world.folder("options")?;
    fs::write(folder.join("parcel.py"), "WHERE = __file__\n")?;
    fs::write(
        folder.join("main.py"),
        "import sys\nprint(sys.argv, sys.path[0], __file__)\n",
    )?;
    for (options, text) in [
        (
            &["-c"][..],
            "import parcel, sys\n\
             assert not sys.flags.ignore_environment and not sys.flags.isolated",
        ),
        (
            &["-E", "-c"],
            "import sys, importlib.util as util\n\
             assert util.find_spec('parcel') is None and sys.flags.ignore_environment",
        ),
        (
            &["-I", "-c"],
            "import sys, importlib.util as util; assert util.find_spec('parcel') is None\n\
             assert sys.flags.isolated and sys.flags.safe_path and '' not in sys.path, sys.path",
        ),
        (
            &["-S", "-c"],
            "import sys, builtins\n\
             assert sys.flags.no_site and 'site' not in sys.modules and 'os' not in sys.modules\n\
             assert not hasattr(builtins, 'exit')\n\
             assert not any('site-packages' in each for each in sys.path)",
        ),
        (
            &["-c"],
            "import sys, builtins\n\
             assert 'site' in sys.modules and hasattr(builtins, 'exit')\n\
             assert '/usr/local/lib/python3.13/site-packages' in sys.path, sys.path\n\
             loaded = {'json', 're', 'datetime', 'enum', 'typing', 'gc'} & {*sys.modules}\n\
             assert not loaded, loaded",
        ),
        (
            &["-O", "-c"],
            "import sys; assert False; print(sys.flags.optimize)",
        ),
        (
            &["-X", "dev", "-c"],
            "import sys\n\
             assert sys.flags.dev_mode and sys.warnoptions == ['default'], sys.warnoptions",
        ),
        (
            &["-X", "utf8=1", "-X", "mine=2", "-c"],
            "import sys\n\
             assert sys.flags.utf8_mode and sys._xoptions == {'utf8': '1', 'mine': '2'}",
        ),
        (
            &["-b", "-B", "-s", "-P", "-q", "-c"],
            "import sys; flags = sys.flags\n\
             assert flags.bytes_warning and flags.dont_write_bytecode and sys.dont_write_bytecode\n\
             assert flags.no_user_site and flags.safe_path and flags.quiet and '' not in sys.path",
        ),
        (
            &["-W", "error", "-c"],
            "import sys, warnings\n\
             try: warnings.warn('loud')\n\
             except UserWarning: pass\n\
             else: raise SystemExit('no error')",
        ),
        (
            &["-u", "-c"],
            "import sys; assert sys.stdout.write_through and sys.stdout.line_buffering is False",
        ),
    ] {
        let arguments = [options, &[text]].concat();
        let container = python(world, &arguments).mount(&folder, "/options", "rbind:ro");
        printed(container.options(&["--env", "PYTHONPATH=/options"]))?;
    }
    let script = python(world, &["/options/main.py", "-c"]).mount(&folder, "/options", "rbind:ro");
    script
        .run()?
        .expect_code(0)?
        .expect_stdout("['/options/main.py', '-c'] /options /options/main.py\n")?;
    let version = python(world, &["-V"]).run()?.expect_code(0)?;
    version.expect_stdout("Python 3.13")?;
    let unknown = python(world, &["--no-such-option"]).run()?.expect_code(2)?;
    unknown.expect_stderr(&["usage: python3"])?;
    Ok(())
}

pub(super) fn environment_of_another_locale_is_obeyed(world: &World) -> Outcome {
    let text = "import sys, locale\n\
                print(sys.flags.utf8_mode, sys.stdout.errors, locale.setlocale(locale.LC_CTYPE))";
    for (variable, expected) in [
        ("LANG=C.UTF-8", "0 surrogateescape C.UTF-8\n"),
        ("LANG=de_DE.UTF-8", "0 strict de_DE.UTF-8\n"),
        ("PYTHONUTF8=1", "1 surrogateescape C.UTF-8\n"),
    ] {
        let container = python(world, &["-c", text]).options(&["--env", variable]);
        container.run()?.expect_code(0)?.expect_stdout(expected)?;
    }
    Ok(())
}

pub(super) fn packages_of_the_container_and_its_environments_are_seen(world: &World) -> Outcome {
    let packages = world.folder("site")?;
    fs::create_dir(packages.join("more"))?;
    fs::write(
        packages.join("more.pth"),
        "more\nimport sys; sys.of_a_pth_file = 1\n",
    )?;
    fs::write(packages.join("more/parcel.py"), "")?;
    fs::write(
        packages.join("sitecustomize.py"),
        "import sys; sys.customized = 1",
    )?;
    let site = "/usr/local/lib/python3.13/site-packages";
    let text = "import sys, parcel; assert sys.of_a_pth_file == 1 == sys.customized";
    printed(python(world, &["-c", text]).mount(&packages, site, "rbind:ro"))?;
    let environment = world.folder("environment")?;
    fs::create_dir_all(environment.join("bin"))?;
    fs::create_dir_all(environment.join("lib/python3.13/site-packages"))?;
    fs::write(
        environment.join("pyvenv.cfg"),
        "home = /usr/local/bin\ninclude-system-site-packages = false\nversion = 3.13.5\n",
    )?;
    std::os::unix::fs::symlink("/usr/local/bin/python3", environment.join("bin/python"))?;
    fs::write(
        environment.join("lib/python3.13/site-packages/parcel.py"),
        "",
    )?;
    let text = r#"
import parcel, sys
assert sys.prefix == "/environment" and sys.base_prefix == "/usr/local", (sys.prefix, sys.base_prefix)
assert sys.executable == "/environment/bin/python", sys.executable
assert parcel.__file__.startswith("/environment/"), parcel.__file__
assert not any(each.startswith("/usr/local/lib/python3.13/site") for each in sys.path), sys.path
"#;
    let container = world
        .container(PYTHON)
        .arguments(&["/environment/bin/python", "-c", text]);
    printed(container.mount(&environment, "/environment", "rbind:ro"))?;
    Ok(())
}

/// A program's own module comes first, also if the interpreter has one of that name in its memory.
pub(super) fn own_modules_hide_those_of_the_library(world: &World) -> Outcome {
    let folder = world.folder("own")?;
    for name in ["json", "re", "enum", "typing"] {
        fs::write(folder.join(format!("{name}.py")), "OWN = True\n")?;
    }
    let text = r#"
import sys
import json, re, enum, typing
assert json.OWN and re.OWN and enum.OWN and typing.OWN
for name in ["json", "re", "enum", "typing"]:
    del sys.modules[name]
sys.path.remove("")
import json, re
assert json.loads("[1]") == [1] and re.search("b+", "abbc").group() == "bb"
assert json.__file__ == "/usr/local/lib/python3.13/json/__init__.py"
assert sys.modules["json.decoder"] is json.decoder and "enum" in sys.modules
import importlib
again = importlib.reload(json)
assert again is json
del sys.modules["json"]
import json as other
assert other is not json
"#;
    let container = python(world, &["-c", text]).mount(&folder, "/own", "rbind:ro");
    printed(container.options(&["--cwd", "/own"]))?;
    Ok(())
}

pub(super) fn time_zone_and_clocks_are_the_containers(world: &World) -> Outcome {
    let text = r#"
import datetime, time
assert time.timezone == -9 * 3600 and time.tzname[0] == "JST", (time.timezone, time.tzname)
assert time.localtime(0).tm_hour == 9
assert datetime.datetime.fromtimestamp(0).hour == 9
assert time.time() > 1_700_000_000 and datetime.datetime.now().year >= 2025
one, other = time.perf_counter(), time.perf_counter()
assert other >= one and time.monotonic() > 0
"#;
    printed(python(world, &["-c", text]).options(&["--env", "TZ=JST-9"]))?;
    let zone = "import time; assert time.timezone == 0 and time.tzname[0] == 'UTC', time.tzname";
    printed(python(world, &["-c", zone]))?;
    Ok(())
}

pub(super) fn tracebacks_name_lines_of_preloaded_modules(world: &World) -> Outcome {
    python(world, &["-c", "import json; json.loads('{')"])
        .run()?
        .expect_code(1)?
        .expect_stderr(&[
            "File \"/usr/local/lib/python3.13/json/__init__.py\"",
            "json.decoder.JSONDecodeError",
        ])?;
    Ok(())
}

pub(super) fn streams_and_the_end_are_those_of_a_new_process(world: &World) -> Outcome {
    let text = r#"
import atexit, sys
assert not sys.stdin.isatty() and not sys.stdout.isatty() and sys.stdin.fileno() == 0
assert sys.stdin.read() == "line\n"
class Last:
    def __del__(self):
        print("deleted")
last = Last()
atexit.register(print, "at exit")
sys.stdout.write("no newline ")
"#;
    python(world, &["-c", text])
        .run_with_stdin(b"line\n")?
        .expect_code(0)?
        .expect_stdout("no newline at exit\ndeleted\n")?;
    Ok(())
}
