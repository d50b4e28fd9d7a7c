//! CPython 3.13, built from source with the SDK: what a native Python does, a guest's does too.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::Outcome;
use crate::command::Finished;
use crate::guests::PYTHON_3_13;
use crate::world::{CtrContainer, World};

/// `python -c SCRIPT`.
fn script<'world>(world: &'world World, text: &str) -> CtrContainer<'world> {
    world
        .container(PYTHON_3_13)
        .arguments(&["python", "-c", text])
}

/// Runs a script whose assertions have to hold.
fn holds(container: CtrContainer<'_>) -> Outcome<Finished> {
    container.run()?.expect_code(0)
}

pub(super) fn paths_are_those_of_the_official_image(world: &World) -> Outcome {
    let packages = world.folder("packages")?;
    fs::write(packages.join("parcel.py"), "CONTENT = 'from a package'")?;
    let text = r#"
import sys, sysconfig, json, parcel
assert sys.executable == "/usr/local/bin/python", sys.executable
assert sys.prefix == sys.exec_prefix == "/usr/local", sys.prefix
assert sys.version_info[:2] == (3, 13), sys.version_info
assert sysconfig.get_path("purelib") == "/usr/local/lib/python3.13/site-packages"
assert json.__file__ == "/usr/local/lib/python3.13/json/__init__.py", json.__file__
assert json.__cached__.startswith("/usr/local/lib/python3.13/json/__pycache__/"), json.__cached__
# Compiled, and never compared with its source: PEP 552.
assert open(json.__cached__, "rb").read()[4:8] == b"\1\0\0\0"
assert parcel.CONTENT == "from a package"
"#;
    holds(script(world, text).mount(
        &packages,
        "/usr/local/lib/python3.13/site-packages",
        "rbind:rw",
    ))?;
    Ok(())
}

pub(super) fn every_module_of_the_library_is_imported(world: &World) -> Outcome {
    // What a guest cannot have, and what is of other systems.
    let text = r#"
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
absent = {
    "_android_support", "_apple_support", "_ios_support", "_aix_support", "_osx_support",
    "_overlapped", "_scproxy", "_winapi", "_wmi", "msilib", "msvcrt", "nt", "winreg", "winsound",
    "asyncio.windows_events", "asyncio.windows_utils", "encodings.mbcs", "encodings.oem",
    "multiprocessing.popen_spawn_win32", "_pyrepl.windows_console", "_pyrepl.windows_eventqueue",
    # They do something on import.
    "antigravity", "this", "__main__",
}
failed = {}
for module in pkgutil.walk_packages(onerror=lambda name: None):
    if module.name in absent or module.name.endswith("__main__") or "test" in module.name.split("."):
        continue
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed[module.name] = f"{type(error).__name__}: {error}"
for name, error in sorted(failed.items()):
    print(name, "|", error)
"#;
    let finished = holds(script(world, text))?;
    let failed: Vec<&str> = finished
        .stdout
        .lines()
        .filter_map(|line| line.split(" | ").next())
        .collect();
    if failed != NOT_HERE {
        return Err(format!("other modules than expected fail:\n{}", finished.stdout).into());
    }
    Ok(())
}

/// Modules of Python's library that need what a guest does not have yet.
const NOT_HERE: &[&str] = &[
    "_multiprocessing",
    "_pyrepl._minimal_curses",
    "_pyrepl.curses",
    "_pyrepl.fancy_termios",
    "_pyrepl.readline",
    "_pyrepl.simple_interact",
    "_pyrepl.unix_console",
    "_pyrepl.unix_eventqueue",
    "ctypes",
    "curses",
    "dbm.gnu",
    "dbm.ndbm",
    "multiprocessing.forkserver",
    "multiprocessing.heap",
    "multiprocessing.popen_forkserver",
    "multiprocessing.resource_tracker",
    "multiprocessing.shared_memory",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
    "pty",
    "ssl",
    "tty",
];

pub(super) fn modules_in_c_do_their_work(world: &World) -> Outcome {
    let text = r#"
import bz2, decimal, hashlib, lzma, os, sqlite3, tempfile, zlib, zoneinfo, datetime
data = b"wasm-interp " * 1000
for module in zlib, bz2, lzma:
    assert module.decompress(module.compress(data)) == data, module
assert decimal.Decimal(2).sqrt(decimal.Context(prec=30)) == decimal.Decimal("1.41421356237309504880168872421")
assert type(decimal.Decimal).__module__ == "builtins" and decimal.__libmpdec_version__
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442"), "sha256"
for name in "md5", "sha1", "sha512", "sha3_256", "blake2b", "blake2s":
    hashlib.new(name, data).hexdigest()
berlin = zoneinfo.ZoneInfo("Europe/Berlin")
assert datetime.datetime(2026, 7, 1, tzinfo=berlin).utcoffset() == datetime.timedelta(hours=2)
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "file.db")
    first, second = sqlite3.connect(path), sqlite3.connect(path, timeout=0.2)
    first.execute("create table note (text)")
    first.execute("create virtual table words using fts5(text)")
    first.commit()
    first.execute("begin immediate")
    first.execute("insert into note values ('kept')")
    # Two connections of one process: SQLite's own locks, and the kernel's beneath them.
    try:
        second.execute("begin immediate")
    except sqlite3.OperationalError as error:
        assert "locked" in str(error), error
    else:
        raise AssertionError("two writers at once")
    first.commit()
    assert second.execute("select text from note").fetchall() == [("kept",)]
"#;
    holds(script(world, text))?;
    Ok(())
}

pub(super) fn files_have_modes_owners_and_locks(world: &World) -> Outcome {
    let folder = world.folder("data")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    let text = r#"
import errno, fcntl, grp, os, pwd, stat, tempfile
os.umask(0o027)
os.mkdir("/data/folder", 0o777)
descriptor = os.open("/data/file", os.O_CREAT | os.O_RDWR, 0o666)
assert stat.S_IMODE(os.stat("/data/file").st_mode) == 0o640
assert stat.S_IMODE(os.stat("/data/folder").st_mode) == 0o750
os.chmod("/data/file", 0o604)
os.chown("/data/file", 12, 34)
os.utime("/data/file", ns=(-1_000_000_001, -1_000_000_001))
status = os.stat("/data/file")
assert (status.st_uid, status.st_gid, status.st_mtime_ns) == (12, 34, -1_000_000_001), status
with tempfile.NamedTemporaryFile() as file:
    assert stat.S_IMODE(os.stat(file.name).st_mode) == 0o600
fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
other = os.open("/data/file", os.O_RDWR)
try:
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    pass
else:
    raise AssertionError("locked twice")
os.mkfifo("/data/fifo", 0o600)
assert stat.S_ISFIFO(os.stat("/data/fifo").st_mode)
assert pwd.getpwuid(os.getuid()).pw_name == "root" and grp.getgrgid(0).gr_name == "root"
os.chdir("/data")
assert os.getcwd() == "/data" and os.path.samefile("file", "/data/file")
# 5 GiB, with a hole.
with open("/data/large", "wb") as large:
    large.seek(5 << 30)
    large.write(b"end")
assert os.path.getsize("/data/large") == (5 << 30) + 3
"#;
    holds(script(world, text).mount(&folder, "/data", "rbind:rw"))?;
    let file = fs::metadata(folder.join("file"))?;
    if (file.mode() & 0o7777, file.uid(), file.gid()) != (0o604, 12, 34) {
        return Err(format!("the host sees {file:?}").into());
    }
    Ok(())
}

pub(super) fn clocks_and_local_time_are_right(world: &World) -> Outcome {
    let text = r#"
import time
def busy(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
start = time.process_time()
busy(0.5)
middle = time.process_time()
time.sleep(1)
end = time.process_time()
# Other containers take their share of a busy second.
assert 0.02 < middle - start < 0.7, middle - start
assert end - middle < 0.3, end - middle
print(time.strftime("%H %Z", time.localtime(0)))
"#;
    let finished = holds(script(world, text).options(&["--env", "TZ=JST-9"]))?;
    finished.expect_stdout("09 JST\n")?;
    Ok(())
}

pub(super) fn deep_recursion_is_an_error_and_no_trap(world: &World) -> Outcome {
    let text = r#"
import functools, json, pickle, re, sys
def recursive(n):
    return n and recursive(n - 1)
def by_sort(n):
    return sorted([n], key=lambda n: by_sort(n + 1))
class Attributes:
    def __getattr__(self, name):
        return getattr(self, name + "x"[:0])
class Represented:
    def __repr__(self):
        return repr([self])
nested = []
for _ in range(200_000):
    nested = [nested]
chain = functools.reduce(lambda inner, _: functools.partial(inner), range(100_000), int)
sys.setrecursionlimit(1_000_000)
cases = {
    "json reads": lambda: json.loads("[" * 200_000),
    "json writes": lambda: json.dumps(nested),
    "re": lambda: re.compile("(" * 50_000 + ")" * 50_000),
    "repr": lambda: repr(nested),
    "compare": lambda: nested == [nested],
    "pickle": lambda: pickle.dumps(nested),
    "own repr": lambda: repr(Represented()),
    "attributes": lambda: Attributes().name,
    "sort": lambda: by_sort(0),
    "partial": lambda: chain(),
    "parser": lambda: compile("-" * 100_000 + "1", "x", "eval"),
    "brackets": lambda: eval("(" * 150 + ")" * 150),
}
for name, case in cases.items():
    try:
        case()
    except (RecursionError, MemoryError) as error:
        print(name, type(error).__name__)
    else:
        print(name, "no error")
sys.setrecursionlimit(1000)
try:
    recursive(2000)
except RecursionError as error:
    print(error)
sys.setrecursionlimit(50_000)
print(recursive(40_000))
"#;
    let finished = holds(script(world, text))?;
    for name in [
        "json reads",
        "json writes",
        "repr",
        "own repr",
        "sort",
        "pickle",
    ] {
        if !finished
            .stdout
            .contains(&format!("{name} RecursionError\n"))
        {
            return Err(format!("{name}: {}", finished.stdout).into());
        }
    }
    finished
        .expect_stdout("maximum recursion depth exceeded")?
        .expect_stdout("\n0\n")?;
    Ok(())
}

pub(super) fn exits_are_those_of_a_native_python(world: &World) -> Outcome {
    for (text, code, stderr) in [
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a text')", 1, "a text\n"),
        ("import sys; sys.exit(130)", 130, ""),
        ("import sys; sys.exit(-1)", 255, ""),
        ("1/0", 1, "ZeroDivisionError: division by zero"),
        ("import os; os._exit(7)", 7, ""),
    ] {
        let finished = script(world, text).run()?.expect_code(code)?;
        finished.expect_stderr(&[stderr])?;
    }
    let container = world
        .container(PYTHON_3_13)
        .arguments(&["python", "-u", "-O", "-W", "error", "-"]);
    container
        .run_with_stdin(b"import warnings\nassert False\nwarnings.warn('loud')\n")?
        .expect_code(1)?
        .expect_stderr(&["UserWarning: loud"])?;
    Ok(())
}

pub(super) fn waits_end_without_threads(world: &World) -> Outcome {
    let text = r#"
import asyncio, concurrent.futures, queue, threading, time
def raises(kind, text, call):
    try:
        call()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError("no error")
raises(RuntimeError, "can't start new thread", threading.Thread(target=print).start)
lock = threading.Lock()
lock.acquire()
raises(RuntimeError, "deadlock", lock.acquire)
raises(RuntimeError, "deadlock", threading.Event().wait)
raises(RuntimeError, "deadlock", queue.Queue().get)
raises(RuntimeError, "deadlock", queue.SimpleQueue().get)
began = time.monotonic()
assert not threading.Event().wait(0.2) and not lock.acquire(timeout=0.2)
raises(queue.Empty, "", lambda: queue.SimpleQueue().get(timeout=0.2))
assert time.monotonic() - began >= 0.6
with concurrent.futures.ThreadPoolExecutor() as pool:
    assert list(pool.map(str, range(3))) == ["0", "1", "2"]
    raises(ZeroDivisionError, "", pool.submit(lambda: 1 / 0).result)
async def main():
    async with asyncio.timeout(10):
        slept = await asyncio.gather(*(asyncio.sleep(0.05, n) for n in range(10)))
    return sum(slept), await asyncio.to_thread(sum, [1, 2])
assert asyncio.run(main()) == (45, 3)
"#;
    holds(script(world, text))?;
    Ok(())
}

pub(super) fn handler_of_term_runs_and_ends_a_wait(world: &World) -> Outcome {
    let text = r#"
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
print("ready", flush=True)
stop.wait()
print("stopped")
sys.exit(7)
"#;
    let container = script(world, text);
    ends_by_term(&container)?;
    container.wait_for_output("stopped")
}

pub(super) fn handler_runs_while_a_loop_computes(world: &World) -> Outcome {
    let text = r#"
import signal, sys
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
print("ready", flush=True)
while not stopped:
    pass
sys.exit(7)
"#;
    ends_by_term(&script(world, text))
}

pub(super) fn handler_of_a_loop_of_asyncio_runs(world: &World) -> Outcome {
    let text = r#"
import asyncio, signal, sys
async def main():
    stop = asyncio.Event()
    # Without a grant, the loop is woken through a pipe.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
asyncio.run(main())
sys.exit(7)
"#;
    ends_by_term(&script(world, text))
}

/// The program prints `ready`, and ends with 7 for TERM.
fn ends_by_term(container: &CtrContainer<'_>) -> Outcome {
    container.detach()?;
    container.wait_for_output("ready")?;
    container.end_by("SIGTERM", 7)?;
    container.remove()
}

pub(super) fn pipes_and_sockets_are_the_kernels(world: &World) -> Outcome {
    let folder = world.folder("data")?;
    let text = r#"
import asyncio, os, select, socket, socketserver
reader, writer = os.pipe()
copy = os.dup(writer)
os.close(writer)
os.write(copy, b"piped")
assert select.select([reader], [], [], 5)[0] == [reader]
assert os.read(reader, 10) == b"piped"
os.close(copy)
assert os.read(reader, 10) == b""
left, right = socket.socketpair()
left.sendall(b"pair")
assert right.recv(10) == b"pair"
right.settimeout(0.1)
try:
    right.recv(10)
except TimeoutError:
    pass
else:
    raise AssertionError("no time-out")
# What is not granted is refused.
for family, address in (socket.AF_INET, ("127.0.0.1", 7001)), (socket.AF_INET6, ("::1", 7001)):
    try:
        socket.socket(family).bind(address)
    except PermissionError:
        pass
    else:
        raise AssertionError("bound")
assert socket.getaddrinfo("127.0.0.1", 80)[0][4] == ("127.0.0.1", 80)
async def echo(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
async def main():
    assert isinstance(asyncio.get_running_loop()._ssock, socket.socket)
    server = await asyncio.start_unix_server(echo, "/data/socket")
    async def client(number):
        reader, writer = await asyncio.open_unix_connection("/data/socket")
        writer.write(b"%d\n" % number)
        answer = await reader.read()
        writer.close()
        return int(answer)
    async with server:
        return sum(await asyncio.gather(*map(client, range(20))))
assert asyncio.run(main()) == 190
"#;
    let rule = "wasm-interp.io/listen=unix:/data/*";
    let connect = "wasm-interp.io/connect=unix:/data/*";
    let container = script(world, text)
        .options(&["--annotation", rule, "--annotation", connect])
        .mount(&folder, "/data", "rbind:rw");
    holds(container)?;
    Ok(())
}

pub(super) fn processes_are_refused_with_what_to_do_instead(world: &World) -> Outcome {
    let text = r#"
import os, subprocess
def message(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__} {error}"
print(message(lambda: subprocess.run(["ls"])))
print(message(lambda: os.fork()))
print(message(lambda: __import__("multiprocessing").Pool()))
assert not hasattr(os, "fork")
"#;
    let finished = holds(script(world, text))?;
    let answers: Vec<&str> = finished.stdout.lines().collect();
    if answers.len() != 3 || !answers.iter().all(|line| line.contains("child processes")) {
        return Err(finished.stdout.into());
    }
    Ok(())
}

pub(super) fn memory_limit_is_a_memory_error_in_3_13(world: &World) -> Outcome {
    let text = r#"
kept = []
try:
    while True:
        kept.append(bytearray(1 << 20))
except MemoryError:
    kept.clear()
    print("MemoryError")
"#;
    let limit = (128u64 << 20).to_string();
    holds(script(world, text).options(&["--memory-limit", &limit]))?
        .expect_stdout("MemoryError")?;
    Ok(())
}

pub(super) fn bill_of_materials_and_licences_are_in_the_image(world: &World) -> Outcome {
    let text = r#"
import json, os
bill = json.load(open("/usr/share/sbom/python.spdx.json"))
assert bill["spdxVersion"] == "SPDX-2.3"
names = {each["name"] for each in bill["packages"]}
assert {"python3.13", "zlib", "bzip2", "xz-utils", "sqlite3", "wasi-libc", "tzdata"} <= names, names
licences = os.listdir("/usr/share/licenses/python")
assert names - {"wasm-interp/python"} <= {*licences}, (names, licences)
for name in licences:
    assert os.path.getsize(f"/usr/share/licenses/python/{name}") > 100, name
"#;
    holds(script(world, text))?;
    Ok(())
}
