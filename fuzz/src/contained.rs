//! A small file system with a directory to be the root of a guest and one outside of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::SystemTime;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{chdir, chroot};

use crate::scratch;

const NOTHING: Option<&str> = None;
/// What only a file outside holds.
pub const SECRET: &str = "outside";

/// Where a file system of another type is in the guest's root, once a target has asked for it by [`reset_kernel`]. It stands for
/// one of the kernel's.
const KERNEL: &str = "kernel";
/// The type of it, `RAMFS_MAGIC`.
const RAMFS: u32 = 0x8584_58f6;
static MOUNTED: OnceLock<()> = OnceLock::new();

/// Whether a guest whose mounts are checked must not have a file system of this type.
pub fn is_refused(kind: u32) -> bool {
    kind == RAMFS
}

/// What a guest would change of [`KERNEL`]: its names, and the times of it and of its file.
type KernelState = (Vec<String>, String, [SystemTime; 2]);

/// Empties the file system at `kernel`. `refused`: it holds the secret, which a guest must neither see nor change, and a
/// link leads to it.
pub fn reset_kernel(refused: bool) {
    let kernel = kernel();
    empty(&kernel);
    if refused {
        fs::write(kernel.join("secret"), SECRET).expect("a file");
        symlink("kernel/secret", files().join("to-kernel")).expect("a link");
    }
}

/// Where that file system is, as the host reaches it.
fn kernel() -> PathBuf {
    let kernel = base().join("root").join(KERNEL);
    MOUNTED.get_or_init(|| {
        fs::create_dir_all(&kernel).expect("a directory");
        mount(
            Some("ramfs"),
            &kernel,
            Some("ramfs"),
            MsFlags::empty(),
            NOTHING,
        )
        .expect("a ramfs");
    });
    kernel
}

/// What is there now.
pub fn kernel_state() -> KernelState {
    let (kernel, secret) = (kernel(), kernel().join("secret"));
    let entries = fs::read_dir(&kernel).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let modified = |path| {
        let metadata = fs::metadata(path).expect("metadata");
        metadata.modified().expect("a time")
    };
    let content = fs::read_to_string(&secret).expect("the secret is there");
    (
        names.collect(),
        content,
        [modified(&kernel), modified(&secret)],
    )
}

/// The file system. It is mounted for this process alone, and goes with it.
fn base() -> &'static Path {
    static BASE: LazyLock<PathBuf> = LazyLock::new(|| {
        let base = scratch::directory().join("contained");
        fs::create_dir_all(&base).expect("a directory");
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace; fuzzing needs root");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(NOTHING, "/", NOTHING, private, NOTHING).expect("private mounts");
        let options = Some("size=16m,nr_inodes=4000");
        mount(
            Some("tmpfs"),
            &base,
            Some("tmpfs"),
            MsFlags::empty(),
            options,
        )
        .expect("a tmpfs");
        for name in ["files", "root", "outside"] {
            fs::create_dir(base.join(name)).expect("a directory");
        }
        // A mount of its own, as a container's root is: who leaves it by a rename does not come back
        // by a "..".
        let (files, root) = (base.join("files"), base.join("root"));
        mount(Some(&files), &root, NOTHING, MsFlags::MS_BIND, NOTHING).expect("a bind mount");
        base
    });
    &BASE
}

/// The guest's files, as the host reaches them.
pub fn files() -> PathBuf {
    base().join("files")
}

/// A directory that no guest may reach.
pub fn outside() -> PathBuf {
    base().join("outside")
}

/// Resets, and makes what guests that call functions of files find: directories, a file, and links, of which one leads
/// out and one to itself.
pub fn reset_with_files() {
    reset();
    let files = files();
    fs::create_dir_all(files.join("a/b")).expect("a directory");
    fs::write(files.join("file"), "content").expect("a file");
    for (name, target) in [
        ("link", "a"),
        ("absolute", "/../outside/secret"),
        ("loop", "loop"),
    ] {
        symlink(target, files.join(name)).expect("a link");
    }
}

/// Empties both directories, and puts a secret outside.
pub fn reset() {
    for directory in [files(), outside()] {
        empty(&directory);
    }
    fs::write(outside().join("secret"), SECRET).expect("a file");
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        // A mount is there, and the directory stays.
        if MOUNTED.get().is_some() && path == files().join(KERNEL) {
            continue;
        }
        let is_directory = fs::symlink_metadata(&path).expect("metadata").is_dir();
        if is_directory {
            fs::remove_dir_all(&path).expect("a directory is removed");
        } else {
            fs::remove_file(&path).expect("a file is removed");
        }
    }
}

/// Runs `guest` in a thread whose root directory is the guest's. No descriptor may be left of it, and
/// the secret must be unchanged.
pub fn run<T: Send>(guest: impl FnOnce() -> T + Send) -> T {
    let before = descriptors();
    let result = run_beside_others(guest);
    assert_eq!(descriptors(), before, "descriptors are left open");
    result
}

/// The same, where other threads open files too.
pub fn run_beside_others<T: Send>(guest: impl FnOnce() -> T + Send) -> T {
    let root = base().join("root");
    let result = thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS).expect("a root directory of its own");
            chroot(&root).expect("a root directory");
            chdir("/").expect("a working directory");
            guest()
        });
        inside.join().expect("no panic inside")
    });
    let secret = fs::read_to_string(outside().join("secret"));
    assert_eq!(secret.expect("the secret is there"), SECRET);
    result
}

/// Gives this process a network namespace of its own, with a loopback that has these addresses too. To be called
/// once, before the first guest. A write to a connection that has ended is only an error then.
pub fn network(addresses: &[&str]) {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    pipe.thread_block().expect("a signal mask");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; fuzzing needs root");
    let ip = |arguments: &[&str]| {
        let done = Command::new("ip").args(arguments).status().expect("ip");
        assert!(done.success(), "ip {arguments:?}");
    };
    ip(&["link", "set", "lo", "up"]);
    for address in addresses {
        let added = ["address", "add", address, "dev", "lo", "nodad"];
        // An IPv6 address is of use at once only without the search for duplicates.
        let six = address.contains(':');
        ip(&added[..added.len() - usize::from(!six)]);
    }
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}
