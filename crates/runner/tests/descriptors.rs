//! What the first process of a container holds open, and what another container of its pod could do
//! with it.
//!
//! With a pid namespace that the pod shares, CAP_SYS_PTRACE and root, a container opens
//! `/proc/PID/fd/N` and
//! `/proc/PID/map_files/…` of another one: what these tests do, as root on the host.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;
// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{SealFlags, StatVfsMountFlags, fcntl_get_seals, statvfs};
use support::{TestContainer, grant};
use wasm_interp_runner_client::RefusalReader;
use wasm_interp_workload::{GrantKind, MountAccess};

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its first process waits for `start`.
    Created,
    Running,
}

/// The links of a directory of /proc/PID, with what they lead to.
fn links(directory: &str) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory}: {e}"));
    entries
        .map(|entry| entry.expect("entry").path())
        .map(|link| (fs::read_link(&link).expect("link"), link))
        .map(|(target, link)| (link, target))
        .collect()
}

/// What the links of native code in memory lead to.
fn code_in_memory() -> &'static Path {
    Path::new("/memfd:wasm-interp-code (deleted)")
}

/// Memory that opens for writing and yet cannot be written.
fn is_sealed(link: &Path) -> bool {
    let memory = fs::File::open(link).expect("open");
    fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// Writes nothing: with a defect the file would be the host's.
fn open_to_write(link: &Path) -> io::Result<fs::File> {
    fs::File::options().read(true).write(true).open(link)
}

fn is(link: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|found: fs::Metadata| (found.dev(), found.ino()));
    identity(link).expect("metadata") == identity(other).expect("metadata")
}

/// Not by its path: a file that is the root of its mount has none but `/`.
fn is_native_code(container: &TestContainer, link: &Path) -> bool {
    container.artifact_path().exists() && is(link, &container.artifact_path())
}

/// Fails unless each descriptor of the container's first process is known, and cannot be written
/// where it is not the container's own.
fn check_descriptors(container: &TestContainer, stage: Stage, granted: &[&str]) {
    let pid = container.pid.expect("created");
    if stage == Stage::Created {
        // The call that created it ends a little before that.
        container.wait_until_settled();
    }
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    for (link, target) in links(&format!("/proc/{pid}/fd")) {
        let what = format!("{stage:?}: {} -> {}", link.display(), target.display());
        let number: i32 = link
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .expect("number");
        let kind = fs::metadata(&link).expect("metadata").file_type();
        if number <= 2 {
            let own = is(&link, container.output_path()) || is(&link, Path::new("/dev/null"));
            assert!(own || kind.is_char_device(), "{what}");
        } else if kind.is_socket() {
            // libcontainer's until the start, then perhaps the event loop's; nothing opens through
            // it.
            open_to_write(&link).expect_err(&what);
        } else if number == 12 && container.refusals.is_some() {
            // Only to write to: for the shim's log.
            assert!(kind.is_fifo(), "{what}");
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/12")).expect("fdinfo");
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = i32::from_str_radix(flags.expect("flags").trim(), 8).expect("octal");
            assert_eq!(flags & libc::O_ACCMODE, libc::O_WRONLY, "{what}");
        } else if kind.is_fifo() {
            // libcontainer's log, whose reader has gone with the runner.
            assert_eq!(stage, Stage::Created, "{what}");
        } else if target.to_string_lossy().starts_with("anon_inode:[event") {
            assert_eq!(stage, Stage::Running, "{what}");
        } else if kind.is_dir() {
            let own = granted.iter().any(|path| is(&link, &root.join(path)));
            assert!(own && stage == Stage::Running, "{what}");
        } else if number == 5 && is_native_code(container, &link) {
            let error = open_to_write(&link).expect_err(&what);
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{what}");
        } else if target == code_in_memory() {
            assert!(is_sealed(&link), "{what}");
        } else {
            // The container's own termination log, which is mounted in it too.
            let reasons = container.reasons.as_ref();
            let own = reasons.is_some_and(|reasons| {
                let (own, found) = (reasons.metadata(), fs::metadata(&link));
                own.expect("metadata").ino() == found.expect("metadata").ino()
            });
            assert!(own && number == 6, "{what}");
        }
    }
}

/// Fails if the container's first process runs or has mapped a file that could be written through
/// it.
fn check_mappings(container: &TestContainer) {
    let pid = container.pid.expect("created");
    let mut files = links(&format!("/proc/{pid}/map_files"));
    let executable = PathBuf::from(format!("/proc/{pid}/exe"));
    files.push((executable.clone(), executable.clone()));
    let mut code = 0;
    for (link, target) in files {
        if is_library_of_tests(&target) {
            continue;
        }
        let what = format!("{} -> {}", link.display(), target.display());
        code += usize::from(is_native_code(container, &link) || target == code_in_memory());
        if is(&link, &executable) {
            // A write is refused with ETXTBSY as long as it runs, and as this afterwards.
            let mount = statvfs(&link).expect("mount").f_flag;
            assert!(mount.contains(StatVfsMountFlags::RDONLY), "{what}");
            continue;
        }
        if target.to_string_lossy().starts_with("/memfd:") {
            assert!(is_sealed(&link), "{what}");
            continue;
        }
        let error = open_to_write(&link).expect_err(&what);
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{what}");
    }
    assert_eq!(
        code > 0,
        container.artifact_path().exists(),
        "the native code is mapped"
    );
}

/// A runner that is built for tests has the C library as files of the host, a release carries it
/// within itself.
fn is_library_of_tests(target: &Path) -> bool {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

fn with_termination_log(mut container: TestContainer) -> TestContainer {
    container.reasons = Some(tempfile::tempfile().expect("file"));
    container.create().expect("create");
    container
}

/// Checks the container while its first process waits for `start`, and once it runs with `granted`
/// directories.
fn check_before_and_after_start(container: &TestContainer, granted: &[&str]) {
    check_descriptors(container, Stage::Created, &[]);
    check_mappings(container);
    container.start().expect("start");
    container.wait_for_output("ready");
    check_descriptors(container, Stage::Running, granted);
    check_mappings(container);
}

fn guest() -> TestContainer {
    let mut container = TestContainer::of(&guests::busy());
    let grants = [("/data", GrantKind::Directory, MountAccess::ReadOnly)];
    let grants = grants.map(|(path, kind, access)| grant(path, kind, access));
    container.plan.grants.extend(grants);
    container
}

#[test]
fn a_guest_holds_nothing_of_the_host_that_can_be_written() {
    let mut container = guest();
    let (_log, end) = RefusalReader::new().expect("a pipe");
    container.refusals = Some(end);
    let mut container = with_termination_log(container);
    // As a shim does. From here on the container alone holds it.
    container.give_up_artifact();
    check_before_and_after_start(&container, &["", "data"]);

    let code = fs::File::open(container.artifact_path()).expect("open");
    code.try_lock()
        .expect_err("the store has to see that it is used");
    container.delete(true).expect("delete");
    container.wait();
    code.try_lock().expect("the store may remove it");
    fs::write(container.artifact_path(), "x").expect("the file itself is writable");
}

#[test]
fn native_code_in_memory_cannot_be_written_either() {
    let mut container = guest();
    container.keep_code_in_memory();
    let mut container = with_termination_log(container);
    container.give_up_artifact();
    check_before_and_after_start(&container, &["", "data"]);
}

#[test]
fn writable_native_code_is_not_passed_to_the_runner() {
    let mut container = guest();
    container.keep_code_in_writable_memory();
    let error = container.create().expect_err("refused").to_string();
    assert!(error.contains("protect the native code"), "{error}");
    container.assert_nothing_left();
}

#[test]
fn a_sandbox_holds_nothing_of_the_host_that_can_be_written() {
    let container = with_termination_log(TestContainer::pause());
    check_descriptors(&container, Stage::Created, &[]);
    check_mappings(&container);
    container.start().expect("start");
    // The standard streams and the termination log.
    container.wait_for_descriptors(4);
    check_descriptors(&container, Stage::Running, &[]);
    check_mappings(&container);
}

#[test]
fn a_native_program_holds_nothing_of_the_host() {
    let script = "echo ready; while :; do :; done";
    let container = with_termination_log(TestContainer::native(&["sh", "-c", script]));
    check_descriptors(&container, Stage::Created, &[]);
    check_mappings(&container);
    container.start().expect("start");
    container.wait_for_output("ready");
    // Its executable and what it maps are the container's.
    assert_eq!(container.descriptors(), [0, 1, 2]);
    check_descriptors(&container, Stage::Running, &[]);
}
