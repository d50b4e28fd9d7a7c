//! CPython 3.13, built from source with the SDK: what a native Python does, a guest's does too.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use crate::Outcome;
use crate::command::{self, Finished, Running};
use crate::guests::PYTHON;
use crate::world::{CtrContainer, World};

/// `python -c SCRIPT`.
pub(super) fn script<'world>(world: &'world World, text: &str) -> CtrContainer<'world> {
    world.container(PYTHON).arguments(&["python", "-c", text])
}

/// For scripts: a function that fails unless a call raises an error with a text.
const RAISES: &str = r"
def raises(kind, text, call):
    try:
        call()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f'no error that says: {text}')
";

/// Runs a script whose assertions have to hold.
pub(super) fn holds(container: CtrContainer<'_>) -> Outcome<Finished> {
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
    if "site-packages" in module.module_finder.path:
        continue
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
    "dbm.gnu",
    "dbm.ndbm",
    "multiprocessing.forkserver",
    "multiprocessing.popen_forkserver",
    "multiprocessing.resource_tracker",
    "multiprocessing.shared_memory",
    "multiprocessing.sharedctypes",
    "multiprocessing.synchronize",
    "pty",
];

pub(super) fn modules_in_c_do_their_work(world: &World) -> Outcome {
    let text = r#"
import bz2, curses, decimal, gc, hashlib, lzma, operator, os, sqlite3, tempfile, zlib, zoneinfo, datetime
data = b"wasm-interp " * 1000
for module in zlib, bz2, lzma:
    assert module.decompress(module.compress(data)) == data, module
assert decimal.Decimal(2).sqrt(decimal.Context(prec=30)) == decimal.Decimal("1.41421356237309504880168872421")
assert type(decimal.Decimal).__module__ == "builtins" and decimal.__libmpdec_version__
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442"), "sha256"
for name in "md5", "sha1", "sha512", "sha3_256", "blake2b", "blake2s":
    hashlib.new(name, data).hexdigest()
curses.setupterm("xterm-256color", 1)
assert curses.tigetnum("colors") == 256 and curses.tparm(curses.tigetstr("cup"), 4, 9) == b"\x1b[5;10H"
# A circle of objects, through one whose function for that had another signature.
circle = []
circle.append(operator.methodcaller("append", circle))
del circle
gc.collect()
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
    # A reader goes on beside a writer, and nothing but the database and its journal is on disk.
    assert second.execute("select text from note").fetchall() == []
    assert {*os.listdir(folder)} == {"file.db", "file.db-journal"}, os.listdir(folder)
    first.commit()
    assert second.execute("select text from note").fetchall() == [("kept",)]
"#;
    holds(script(world, text))?;
    Ok(())
}

pub(super) fn ctypes_has_types_and_says_what_it_cannot_call(world: &World) -> Outcome {
    let text = r#"
import ctypes, ctypes.util, struct
from ctypes import POINTER, byref, c_double, c_int, c_longlong, c_uint8, c_uint32, c_void_p
class Header(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = [("kind", c_uint8), ("length", c_uint32), ("ratio", c_double), ("name", ctypes.c_char * 4)]
packed = struct.pack(">BId4s", 7, 1 << 20, 0.5, b"wasm")
header = Header.from_buffer_copy(packed)
assert (header.kind, header.length, header.ratio, header.name) == (7, 1 << 20, 0.5, b"wasm")
header.length += 1
assert bytes(header) == struct.pack(">BId4s", 7, (1 << 20) + 1, 0.5, b"wasm")
class Bits(ctypes.Structure):
    _fields_ = [("low", c_uint32, 3), ("high", c_uint32, 5)]
class Both(ctypes.Union):
    _fields_ = [("bits", Bits), ("word", c_uint32)]
assert (Both(word=0b10110_101).bits.low, Both(word=0b10110_101).bits.high) == (0b101, 0b10110)
assert [ctypes.sizeof(kind) for kind in (c_void_p, ctypes.c_long, c_longlong, ctypes.c_wchar)] == [4, 4, 8, 4]
# What ctypes does by calls of C functions.
numbers = (c_int * 4)(1, 2, 3, 4)
assert ctypes.cast(numbers, POINTER(c_int))[2] == 3
ctypes.memmove(byref(numbers, 4), byref(c_int(-9)), 4)
ctypes.memset(byref(numbers, 8), 0xff, 4)
assert [*numbers] == [1, -9, -1, 4], [*numbers]
assert ctypes.string_at(ctypes.create_string_buffer(b"text"), 3) == b"tex"
assert ctypes.wstring_at(ctypes.create_unicode_buffer("gr\u00fcn")) == "gr\u00fcn"
assert ctypes.util.find_library("c") is None
raises(OSError, "cannot load native libraries", lambda: ctypes.CDLL("libc.so.6"))
raises(AttributeError, "no C functions that can be called by name", lambda: ctypes.pythonapi.Py_GetVersion)
raises(NotImplementedError, "cannot make a C function of a Python function", lambda: ctypes.CFUNCTYPE(c_int)(lambda: 1))
raises(NotImplementedError, "at most 8 arguments", lambda: ctypes.CFUNCTYPE(c_double, c_double)(1)(0.5))
raises(NotImplementedError, "at most 8 arguments", lambda: ctypes.CFUNCTYPE(c_int, *[c_int] * 9)(1)(*range(9)))
raises(NotImplementedError, "in argtypes", lambda: ctypes.CFUNCTYPE(c_int, c_int)(1)(1, 2))
ctypes.memset.restype = None
assert ctypes.memset(numbers, 0, 4) is None and numbers[0] == 0
"#;
    holds(script(world, &[RAISES, text].concat()))?;
    Ok(())
}

pub(super) fn files_have_modes_owners_and_locks(world: &World) -> Outcome {
    let folder = world.folder("data")?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
    let text = r#"
import errno, fcntl, grp, os, pwd, shutil, stat, tempfile
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
# A link is copied without its mode, which it does not have on Linux.
os.symlink("file", "link")
shutil.copy2("link", "copy", follow_symlinks=False)
assert os.readlink("copy") == "file" and os.chmod not in os.supports_follow_symlinks
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
import os, time
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
os.environ["TZ"] = "Europe/Berlin"
time.tzset()
print(time.strftime("%H %Z", time.localtime(0)), time.tzname)
"#;
    let finished = holds(script(world, text).options(&["--env", "TZ=JST-9"]))?;
    finished.expect_stdout("09 JST\n01 CET ('CET', 'CEST')\n")?;
    Ok(())
}

/// The image has a `memcmp` of its own, which compares words.
pub(super) fn first_byte_that_differs_decides_what_is_less(world: &World) -> Outcome {
    let text = r#"
for size in range(41):
    for place in range(size):
        for low, high in ((0, 1), (127, 128), (1, 255)):
            # What comes after the first difference says the opposite.
            before, after = b"\x80" * place, size - place - 1
            less = before + bytes([low]) + b"\xff" * after
            more = before + bytes([high]) + b"\0" * after
            assert less < more and more > less and less != more, (size, place, low)
            assert sorted([more.decode("latin-1"), less.decode("latin-1")])[1] == more.decode("latin-1")
            assert less == bytes(bytearray(less)) and not less < bytes(bytearray(less)), size
            # At other addresses than those of an object's first byte.
            assert bytearray(b"x" + more).find(more) == 1, (size, place)
"#;
    holds(script(world, text))?;
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
sys.setrecursionlimit(int(sys.argv[1]))
cases = {
    "json reads": lambda: json.loads("[" * 200_000),
    "json writes": lambda: json.dumps(nested),
    "re": lambda: re.compile("(" * 50_000 + ")" * 50_000),
    "repr": lambda: repr(nested),
    "compare": lambda: nested == [nested],
    "pickle": lambda: pickle.dumps(nested),
    "own repr": lambda: repr(Represented()),
    "attributes": lambda: Attributes().name,
    "python": lambda: recursive(100_000),
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
sys.setrecursionlimit(50_000)
assert recursive(40_000) == 0
"#;
    let limited = |limit| {
        let arguments = ["python", "-c", text, limit];
        holds(world.container(PYTHON).arguments(&arguments))
    };
    // What Debian's python3.13 prints.
    let native = "json reads RecursionError\njson writes RecursionError\nre RecursionError\n\
         repr RecursionError\ncompare RecursionError\npickle RecursionError\n\
         own repr RecursionError\nattributes RecursionError\npython RecursionError\n\
         sort RecursionError\npartial no error\nparser MemoryError\nbrackets no error\n";
    let finished = limited("1000")?;
    if finished.stdout != native {
        return Err(format!("native:\n{native}ours:\n{}", finished.stdout).into());
    }
    // Far beyond what its stack holds, a native Python ends by a signal.
    let finished = limited("1000000")?;
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
    Ok(())
}

/// The last line of what Python says about an error, without its own path and without the number of an `OSError`,
/// which is WASI's here.
fn last_words(stderr: &str) -> String {
    let last = stderr
        .lines()
        // ctr's own, of a machine with cgroup v1.
        .rfind(|line| !line.starts_with("time="))
        .unwrap_or_default();
    let last = match last.split_once(": ") {
        Some((program, rest)) if program.contains("python") => rest,
        _ => last,
    };
    match last.split_once("[Errno ") {
        Some((before, after)) => before.to_owned() + after.trim_start_matches(char::is_numeric),
        None => last.to_owned(),
    }
}

pub(super) fn exits_are_those_of_a_native_python(world: &World) -> Outcome {
    for arguments in [
        &["-c", "raise SystemExit"][..],
        &["-c", "import sys; sys.exit(3)"],
        &["-c", "import sys; sys.exit('a text')"],
        &["-c", "import sys; sys.exit((1, 'two'))"],
        &["-c", "import sys; sys.exit(130)"],
        &["-c", "import sys; sys.exit(-1)"],
        &["-c", "import sys; sys.exit(256)"],
        &["-c", "1/0"],
        &["-c", "raise KeyboardInterrupt"],
        &["-c", "import os; os._exit(7)"],
        &[
            "-c",
            "import atexit; atexit.register(print, 'last'); raise SystemExit(4)",
        ],
        &[
            "-c",
            "raise ExceptionGroup('some', [KeyError(1)]) from None",
        ],
        &["-c", "if"],
        &["-c", "open('/nothing/here')"],
        &["/nothing/here.py"],
        &["-m", "nothing_here"],
        &[
            "-W",
            "error",
            "-c",
            "import warnings; warnings.warn('loud')",
        ],
        &["-O", "-c", "assert False; print(__debug__)"],
        &[
            "-I",
            "-c",
            "import sys; print(sys.flags.isolated, '' in sys.path)",
        ],
    ] {
        let native = command::run(native(world, arguments), None)?;
        let ours = world
            .container(PYTHON)
            .arguments(&[&["python"], arguments].concat())
            .run()?
            .expect_code(native.code)?
            .expect_stdout(&native.stdout)?;
        if last_words(&ours.stderr) != last_words(&native.stderr) {
            return Err(format!("{arguments:?}: native {native}, ours {ours}").into());
        }
    }
    let container = world
        .container(PYTHON)
        .arguments(&["python", "-u", "-O", "-W", "error", "-"]);
    container
        .run_with_stdin(b"import warnings\nassert False\nwarnings.warn('loud')\n")?
        .expect_code(1)?
        .expect_stderr(&["UserWarning: loud"])?;
    Ok(())
}

/// This machine's own Python.
fn native(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command
        .args(arguments)
        // So that it is known as the run's, should it be left behind.
        .env("WASM_INTERP_TEST_RUN", world.name())
        .current_dir("/");
    command
}

pub(super) fn waits_end_without_threads(world: &World) -> Outcome {
    let text = r#"
import asyncio, concurrent.futures, faulthandler, queue, threading, time
raises(RuntimeError, "can't start new thread", threading.Thread(target=print).start)
lock = threading.Lock()
lock.acquire()
raises(RuntimeError, "deadlock", lock.acquire)
raises(RuntimeError, "deadlock", threading.Event().wait)
raises(RuntimeError, "deadlock", queue.Queue().get)
raises(RuntimeError, "deadlock", queue.SimpleQueue().get)
# As pytest does. What it handles ends no wait.
faulthandler.enable()
raises(RuntimeError, "deadlock", threading.Event().wait)
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
    holds(script(world, &[RAISES, text].concat()))?;
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
assert socket.getservbyname("postgresql", "tcp") == 5432 and socket.getservbyport(443) == "https"
reader, writer = os.pipe()
copy = os.dup(writer)
os.close(writer)
os.write(copy, b"piped")
assert select.select([reader], [], [], 5)[0] == [reader]
poll = select.poll()
poll.register(reader, select.POLLIN)
assert poll.poll(5000) == [(reader, select.POLLIN)]
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
import asyncio, concurrent.futures, multiprocessing, os, subprocess
def sub():
    return asyncio.run(asyncio.create_subprocess_exec("ls"))
for name, call in {
    "run": lambda: subprocess.run(["ls"]),
    "check_output": lambda: subprocess.check_output("ls", shell=True),
    "fork": lambda: os.fork(),
    "system": lambda: os.system("ls"),
    "popen": lambda: os.popen("ls"),
    "execv": lambda: os.execv("/bin/ls", ["ls"]),
    "spawn": lambda: os.posix_spawn("/bin/ls", ["ls"], {}),
    "asyncio": sub,
    "pool": lambda: multiprocessing.Pool(),
    "process": lambda: multiprocessing.Process(target=print).start(),
    "queue": lambda: multiprocessing.Queue(),
    "lock": lambda: multiprocessing.Lock(),
    "value": lambda: multiprocessing.Value("i"),
    "memory": lambda: __import__("multiprocessing.shared_memory"),
    "executor": lambda: concurrent.futures.ProcessPoolExecutor(),
}.items():
    try:
        call()
    except Exception as error:
        print(name, type(error).__name__, error)
    else:
        print(name, "no error")
assert not hasattr(os, "fork")
"#;
    let finished = holds(script(world, text))?;
    let answers: Vec<&str> = finished.stdout.lines().collect();
    if answers.len() != 15 || !answers.iter().all(|line| line.contains("child processes")) {
        return Err(finished.stdout.into());
    }
    Ok(())
}

pub(super) fn memory_limit_is_a_memory_error_in_3_13(world: &World) -> Outcome {
    let text = r#"
import mmap
def grow(make):
    kept = []
    while True:
        kept.append(make())
def doubled():
    text = "x" * 1024
    while True:
        text += text
cases = {
    "many": lambda: grow(lambda: bytearray(1 << 20)),
    "one": lambda: bytearray(1 << 30),
    "text": doubled,
    "list": lambda: [0] * (1 << 28),
    "small": lambda: grow(object),
    "mapping": lambda: grow(lambda: mmap.mmap(-1, 1 << 20)),
}
for name, case in cases.items():
    try:
        case()
    except (MemoryError, OSError) as error:
        print(name, type(error).__name__)
    # What was in use is free again.
    assert len(bytearray(16 << 20)) == 16 << 20
"#;
    let limit = (128u64 << 20).to_string();
    let finished = holds(script(world, text).options(&["--memory-limit", &limit]))?;
    let expected = "many MemoryError\none MemoryError\ntext MemoryError\nlist MemoryError\n\
         small MemoryError\nmapping OSError\n";
    if finished.stdout != expected {
        return Err(finished.stdout.into());
    }
    Ok(())
}

pub(super) fn hashes_are_those_of_openssl(world: &World) -> Outcome {
    let text = r#"
import hashlib, hmac, io, secrets, ssl
assert ssl.OPENSSL_VERSION.startswith("OpenSSL 3.5."), ssl.OPENSSL_VERSION
assert hashlib.sha256.__module__ == "_hashlib"
assert hashlib.algorithms_guaranteed <= hashlib.algorithms_available
for name, expected in {
    "md5": "900150983cd24fb0d6963f7d28e17f72",
    "ripemd160": "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
    "sha1": "a9993e364706816aba3e25717850c26c9cd0d89d",
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    "sha512_256": "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23",
    "sha3_256": "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
    "sm3": "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
}.items():
    assert name in hashlib.algorithms_available, name
    assert hashlib.new(name, b"abc").hexdigest() == expected, name
    assert hashlib.file_digest(io.BytesIO(b"abc"), name).hexdigest() == expected, name
assert hashlib.scrypt(b"", salt=b"", n=16, r=1, p=1, dklen=16).hex() == "77d6576238657b203b19ca42c18a0497"
assert hashlib.pbkdf2_hmac("sha1", b"password", b"salt", 2).hex() == "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"
assert hmac.digest(b"key", b"", "sha256").hex().startswith("5d5d139563c95b5967b9bd9a8c9b233a")
assert secrets.token_bytes(32) != secrets.token_bytes(32) and ssl.RAND_status()
assert ssl.RAND_bytes(1000) != ssl.RAND_bytes(1000)
names = {cipher["name"] for cipher in ssl.create_default_context().get_ciphers()}
assert {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"} <= names, names
"#;
    holds(script(world, text))?;
    Ok(())
}

pub(super) fn limits_logs_and_mappings_are_as_documented(world: &World) -> Outcome {
    let text = r#"
import mmap, os, re, resource, socket, syslog
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
for call in (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard)),
             lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (2, 1)),
             lambda: resource.getrlimit(1000)):
    try:
        call()
    except ValueError:
        pass
    else:
        raise AssertionError("a limit was changed")
assert resource.getrlimit(resource.RLIMIT_STACK)[0] == 8 << 20
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 1000

log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
syslog.openlog("guest", syslog.LOG_PID, syslog.LOG_LOCAL3)
syslog.syslog(syslog.LOG_WARNING, "disk %d full")
line = log.recv(1000)
assert re.fullmatch(rb"<156>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d guest\[\d+\]: disk %d full", line), line

memory = mmap.mmap(-1, 100_000)
assert memory[:] == bytes(100_000)
memory[99_995:] = b"whole"
memory.flush()
assert memory.rfind(b"whole") == 99_995
memory.close()
with open("/tmp/file", "w+b") as file:
    file.write(b"content" * 10_000)
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as copy:
        copy[:7] = b"CHANGED"
        assert copy[:14] == b"CHANGEDcontent"
    assert os.pread(file.fileno(), 7, 0) == b"content"
    for options in {"access": mmap.ACCESS_READ}, {"prot": mmap.PROT_READ}:
        with mmap.mmap(file.fileno(), 0, **options) as reading:
            assert len(reading) == 70_000 and reading.find(b"content", 69_990) == 69_993
            try:
                reading[0] = 1
            except TypeError:
                pass
            else:
                raise AssertionError("written")
    start = mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(file.fileno(), 7, access=mmap.ACCESS_READ, offset=start) as part:
        assert part[:] == os.pread(file.fileno(), 7, start)
    try:
        mmap.mmap(file.fileno(), 0)
    except OSError as error:
        assert "mmap.ACCESS_COPY" in str(error), error
    else:
        raise AssertionError("a file is shared")
"#;
    let container = script(world, text).options(&[
        "--annotation",
        "wasm-interp.io/listen=unix:/dev/log",
        "--annotation",
        "wasm-interp.io/connect=unix:/dev/log",
    ]);
    holds(container)?;
    Ok(())
}

/// Types `keys` at the next prompt, and waits for what comes of it.
fn answer_prompt(
    terminal: &mut Running,
    seen: &mut usize,
    prompt: &str,
    keys: &str,
    answer: &str,
) -> Outcome {
    terminal.wait_for_stdout(prompt, seen)?;
    terminal.write(keys.as_bytes())?;
    terminal.wait_for_stdout(answer, seen)
}

pub(super) fn prompt_has_lines_that_can_be_edited(world: &World) -> Outcome {
    let container = world.container(PYTHON).arguments(&["python"]);
    let mut terminal = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    // The prompt has put the keys into the mode in which a terminal sends these.
    let (left, up) = ("\x1bOD", "\x1bOA");
    // ctr's own terminal puts one more \r into the ends of lines.
    for (keys, answer) in [
        ("6 * 7\r".to_owned(), "42\r"),
        // What is missing is put in at its place.
        (format!("'ac'{left}{left}b\r"), "'abc'\r"),
        (format!("{up}{left} too\r"), "'abc too'\r"),
        (
            "def twice(x):\r    return 2 * x\r\rtwice(21)\r".to_owned(),
            "42\r",
        ),
        ("1 / 0\r".to_owned(), "ZeroDivisionError"),
        ("import os; os.isatty(0)\r".to_owned(), "True\r"),
    ] {
        answer_prompt(&mut terminal, &mut seen, ">>> ", &keys, answer)?;
    }
    terminal.wait_for_stdout(">>> ", &mut seen)?;
    terminal.write(b"\x04")?;
    terminal.finish()?.expect_code(0)?;
    Ok(())
}

pub(super) fn readline_edits_remembers_and_completes(world: &World) -> Outcome {
    let text = r#"
import os, readline
assert "libedit" in readline.__doc__ and readline.backend == "editline"
os.environ["HOME"] = "/tmp"
with open("/tmp/.editrc", "w") as settings:
    settings.write('bind "^T" ed-move-to-beg\n')
readline.read_init_file()
def words(text, state):
    return dict(enumerate(word for word in ("alpha", "alphabet") if word.startswith(text))).get(state)
readline.set_completer(words)
readline.parse_and_bind("bind ^I rl_complete")
for number in range(4):
    print(f"line {number} is", input("line? "))
for error in KeyboardInterrupt, EOFError:
    try:
        input("line? ")
    except error as caught:
        print("it is", type(caught).__name__)
readline.set_history_length(4)
readline.write_history_file("/tmp/history")
readline.add_history("appended")
readline.append_history_file(1, "/tmp/history")
readline.clear_history()
readline.read_history_file("/tmp/history")
print("remembered", [readline.get_history_item(1 + n) for n in range(readline.get_current_history_length())])
"#;
    let container = script(world, text);
    let mut terminal = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    let (left, up) = ("\x1b[D", "\x1b[A");
    for (keys, answer) in [
        (format!("ac{left}b\r"), "line 0 is abc"),
        (format!("{up}d\r"), "line 1 is abcd"),
        ("alphab\t\r".to_owned(), "line 2 is alphabet"),
        // By the user's settings, to the beginning of the line.
        ("b\x14a\r".to_owned(), "line 3 is ab"),
        ("given up\x03".to_owned(), "it is KeyboardInterrupt"),
        ("\x04".to_owned(), "it is EOFError"),
    ] {
        answer_prompt(&mut terminal, &mut seen, "line? ", &keys, answer)?;
    }
    terminal.wait_for_stdout(
        "remembered ['abcd', 'alphabet', 'ab', 'appended']",
        &mut seen,
    )?;
    terminal.finish()?.expect_code(0)?;
    Ok(())
}

pub(super) fn terminal_is_read_key_by_key_and_without_echo(world: &World) -> Outcome {
    let text = r#"
import getpass, os, termios, tty
old = tty.setraw(0)
print("a key? ", end="", flush=True)
key = os.read(0, 1)
termios.tcflush(0, termios.TCIFLUSH)
termios.tcsetattr(0, termios.TCSADRAIN, old)
print("it was", key, len(termios.tcgetwinsize(0)), flush=True)
assert termios.tcgetattr(0) == old
print("told", len(getpass.getpass("secret? ")))
"#;
    let container = script(world, text);
    let mut terminal = container.run_beside_on_a_terminal()?;
    let mut seen = 0;
    terminal.wait_for_stdout("a key? ", &mut seen)?;
    terminal.write(b"k")?;
    terminal.wait_for_stdout("it was b'k' 2", &mut seen)?;
    terminal.wait_for_stdout("secret? ", &mut seen)?;
    terminal.write(b"hidden\r")?;
    terminal.wait_for_stdout("told 6", &mut seen)?;
    let finished = terminal.finish()?.expect_code(0)?;
    if finished.stdout.contains("hidden") {
        return Err(format!("a password is shown: {finished}").into());
    }
    Ok(())
}

pub(super) fn bill_of_materials_and_licences_are_in_the_image(world: &World) -> Outcome {
    let text = r#"
import json, os
bill = json.load(open("/usr/share/sbom/python.spdx.json"))
assert bill["spdxVersion"] == "SPDX-2.3"
packages = {each["name"]: each["versionInfo"] for each in bill["packages"] if each["name"] != "wasm-interp/python"}
assert {"python3.13", "zlib", "bzip2", "xz-utils", "sqlite3", "openssl", "ncurses", "libffi", "libedit", "wasi-libc", "ca-certificates", "ncurses-base", "tzdata"} <= packages.keys()
licences = os.listdir("/usr/share/licenses/python")
crates = open("/usr/share/licenses/python/pydantic-core").read()
without = {name for name in packages.keys() - {*licences} if f"vendor/{name}-{packages[name]}/LICENSE" not in crates}
# Crates for other systems, which are not compiled here.
assert without <= {"r-efi", "wit-bindgen-rt"}, without
for name in licences:
    assert os.path.getsize(f"/usr/share/licenses/python/{name}") > 100, name
"#;
    holds(script(world, text))?;
    Ok(())
}
