//! The real view against root filesystems that mean harm.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::unistd::mkfifo;
use oci_spec::runtime::{Mount, MountBuilder};
use tempfile::TempDir;

use super::*;
use crate::view::FileKind;
use crate::{ErrorKind, PlanError, Policy, Work, decide};

/// A host with a container's root filesystem in one folder and other files beside it.
struct Host {
    folder: TempDir,
    mounts: Vec<Mount>,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rootfs")).unwrap();
        let host = Self {
            folder,
            mounts: Vec::new(),
        };
        host.write("secret", "of the host");
        host
    }

    /// A path of the host; the root filesystem is at `rootfs`.
    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, target: impl AsRef<Path>, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn bind(&mut self, source: impl AsRef<Path>, destination: &str, option: &str) {
        let mount = MountBuilder::default()
            .destination(destination)
            .typ("bind")
            .source(source.as_ref())
            .options([option.to_owned()]);
        self.mounts.push(mount.build().unwrap());
    }

    fn spec(&self) -> Spec {
        let mut spec = Spec::default();
        spec.set_mounts(Some(self.mounts.clone()));
        spec
    }

    fn view(&self) -> RootfsView {
        RootfsView::new(&self.path("rootfs"), &self.spec()).unwrap()
    }

    /// What the container would read at `path`.
    fn read(&self, path: &str) -> Result<String, ViewError> {
        let mut text = String::new();
        self.view()
            .open(Path::new(path))?
            .read_to_string(&mut text)
            .unwrap();
        Ok(text)
    }
}

#[track_caller]
fn assert_not_found(result: &Result<String, ViewError>) {
    assert!(
        matches!(result, Err(ViewError::NotFound { .. })),
        "{result:?}"
    );
}

#[test]
fn an_absolute_symlink_stays_beneath_the_root() {
    let host = Host::new();
    host.link(host.path("secret"), "rootfs/file");
    host.link(host.path(""), "rootfs/folder");
    assert_not_found(&host.read("/file"));
    assert_not_found(&host.read("/folder/secret"));

    host.link("/etc", "rootfs/config");
    host.write("rootfs/etc/passwd", "of the image");
    assert_eq!(host.read("/config/passwd").unwrap(), "of the image");
}

#[test]
fn a_directory_that_is_listed_is_the_images_own() {
    let host = Host::new();
    host.write("rootfs/bin/a", "");
    host.write("rootfs/bin/b", "");
    host.link("/bin", "rootfs/here");
    host.link(host.path(""), "rootfs/out");
    let names = |path: &str, most| host.view().names(Path::new(path), most);
    assert_eq!(names("/here", 9).unwrap(), ["a", "b"]);
    assert_eq!(names("/bin", 1).unwrap().len(), 1);
    for path in ["/out", "/bin/a", "/nowhere"] {
        let error = names(path, 9).unwrap_err();
        assert!(matches!(error, ViewError::NotFound { .. }), "{error}");
    }
}

#[test]
fn climbing_ends_at_the_root() {
    let host = Host::new();
    host.write("rootfs/etc/passwd", "of the image");
    host.link("../../../../../../../../etc/passwd", "rootfs/a/b/up");
    host.link("../secret", "rootfs/beside");
    assert_eq!(host.read("/a/b/up").unwrap(), "of the image");
    assert_eq!(host.read("/../../a/../etc/passwd").unwrap(), "of the image");
    assert_not_found(&host.read("/beside"));
    assert_not_found(&host.read("/../secret"));
}

#[test]
fn magic_links_of_the_host_are_not_followed() {
    let mut host = Host::new();
    host.link("/proc/self/root/etc/passwd", "rootfs/file");
    assert_not_found(&host.read("/file"));
    // Even with the host's proc bound in, which is refused.
    host.bind("/proc", "/proc", "rbind");
    assert_not_found(&host.read("/file"));
}

/// What a volume brings there would stand for the image that was looked at, its /dev above all.
#[test]
fn nothing_is_mounted_over_the_root() {
    for destination in ["/", "/x/..", "/link", "/link/../link"] {
        let mut host = Host::new();
        host.link("/", "rootfs/link");
        host.write("volume/file", "");
        host.bind("volume", destination, "rbind");
        let Err(error) = RootfsView::new(&host.path("rootfs"), &host.spec()) else {
            panic!("{destination} is mounted");
        };
        assert!(
            matches!(error, ViewError::MountOverRoot { .. }),
            "{destination}: {error}"
        );
    }
}

#[test]
fn loops_end() {
    let host = Host::new();
    host.link("b", "rootfs/a");
    host.link("/a", "rootfs/b");
    host.link("self/x", "rootfs/self");
    for path in ["/a", "/b/c", "/self"] {
        let result = host.read(path);
        assert!(matches!(result, Err(ViewError::Loop { .. })), "{result:?}");
    }
}

#[test]
fn a_long_chain_of_names_ends() {
    let host = Host::new();
    let long = "x".repeat(300);
    assert_not_found(&host.read(&format!("/{long}")));
    let root = host
        .view()
        .resolve(Path::new(&"/../.".repeat(10_000)))
        .unwrap();
    assert_eq!(root.path, Path::new("/"));
}

#[test]
fn only_regular_files_are_opened() {
    let mut host = Host::new();
    mkfifo(&host.path("rootfs/fifo"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(host.path("rootfs/socket")).unwrap();
    fs::create_dir(host.path("rootfs/directory")).unwrap();
    host.bind("/dev/null", "/null", "bind");
    // Opening a FIFO waits for a writer, so a wrong open would hang: another thread does it.
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for path in ["/fifo", "/socket", "/directory", "/null", "/"] {
            done.send((path, host.read(path))).unwrap();
        }
    });
    for _ in 0..5 {
        let (path, result) = result.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(
            matches!(result, Err(ViewError::NotRegular { .. })),
            "{path}: {result:?}"
        );
    }
}

#[test]
fn a_directory_that_becomes_a_symlink_is_not_followed() {
    // The walk found a directory; by the time of the next look the image's owner has swapped it.
    let host = Host::new();
    host.link(host.path(""), "rootfs/swapped");
    let tree = HostTree::open(&host.path("rootfs"), BindDepth::Recursive).unwrap();
    let error = tree.open(Path::new("swapped/secret")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
    assert_eq!(tree.entry(Path::new("../secret")).unwrap(), Entry::Missing);
}

#[test]
fn mounts_lie_over_the_root_filesystem() {
    let mut host = Host::new();
    host.write("rootfs/app/main.py", "of the image");
    host.write("rootfs/app/only-in-image", "of the image");
    host.write("source/main.py", "of the mount");
    host.write("source/deep/x", "of the mount");
    host.write("nested/x", "of the nested mount");
    host.write("file", "of the file mount");
    host.bind(host.path("source"), "/app", "rbind");
    host.bind(host.path("nested"), "/app/deep", "rbind");
    host.bind(host.path("file"), "/app/main.py", "bind");
    host.bind(host.path("file"), "/made/on/the/way", "bind");
    assert_eq!(host.read("/app/main.py").unwrap(), "of the file mount");
    assert_eq!(host.read("/app/deep/x").unwrap(), "of the nested mount");
    assert_eq!(host.read("/made/on/the/way").unwrap(), "of the file mount");
    assert_not_found(&host.read("/app/only-in-image"));
    let made = host.view().resolve(Path::new("/made/on")).unwrap();
    assert_eq!(made.kind, FileKind::Directory);
    // `..` leaves a mount towards the directory that it is mounted in.
    assert_eq!(
        host.read("/app/deep/../main.py").unwrap(),
        "of the file mount"
    );
}

#[test]
fn a_later_mount_hides_earlier_ones_beneath_it() {
    let mut host = Host::new();
    host.write("inner/x", "of the inner mount");
    host.write("outer/y", "of the outer mount");
    host.bind(host.path("inner"), "/data/inner", "rbind");
    host.bind(host.path("outer"), "/data", "rbind");
    assert_not_found(&host.read("/data/inner/x"));
    assert_eq!(host.read("/data/y").unwrap(), "of the outer mount");
}

#[test]
fn links_within_a_mount_are_the_containers() {
    let mut host = Host::new();
    host.write("rootfs/etc/passwd", "of the image");
    host.link("/etc/passwd", "source/absolute");
    host.link("../etc/passwd", "source/relative");
    host.link("../../secret", "source/out");
    host.bind(host.path("source"), "/app", "rbind");
    assert_eq!(host.read("/app/absolute").unwrap(), "of the image");
    assert_eq!(host.read("/app/relative").unwrap(), "of the image");
    assert_not_found(&host.read("/app/out"));
}

#[test]
fn destinations_pass_through_the_images_symlinks() {
    let mut host = Host::new();
    host.link("/../../real", "rootfs/data");
    host.write("rootfs/real/keep", "of the image");
    host.write("source/x", "of the mount");
    host.bind(host.path("source"), "/data/x/../y", "rbind");
    let view = host.view();
    assert_eq!(view.mounts()[0].path, Path::new("/real/y"));
    assert_eq!(host.read("/real/y/x").unwrap(), "of the mount");
    assert_eq!(host.read("/data/y/x").unwrap(), "of the mount");
    assert_eq!(host.read("/data/keep").unwrap(), "of the image");
}

#[test]
fn tmpfs_is_empty_and_kernel_file_systems_are_not_there() {
    let mut host = Host::new();
    host.write("rootfs/tmp/x", "of the image");
    host.write("rootfs/proc/x", "of the image");
    for (typ, destination) in [("tmpfs", "/tmp"), ("proc", "/proc")] {
        let mount = MountBuilder::default().destination(destination).typ(typ);
        host.mounts.push(mount.build().unwrap());
    }
    assert_not_found(&host.read("/tmp/x"));
    // It stays unmounted, so what the image has there is there.
    assert_eq!(host.read("/proc/x").unwrap(), "of the image");
}

#[test]
fn what_is_not_for_a_guest_is_refused_by_what_it_is() {
    let mut host = Host::new();
    let _socket = UnixListener::bind(host.path("socket")).unwrap();
    host.link("/proc/self", "link-to-proc");
    host.bind("/proc", "/a", "rbind");
    host.bind("/sys", "/b", "bind");
    host.bind(host.path("link-to-proc"), "/c", "bind");
    host.bind("/proc/version", "/d", "bind");
    host.bind(host.path("socket"), "/e", "bind");
    host.bind("/dev/tty", "/f", "bind");
    host.bind("/dev/urandom", "/g", "bind");
    let contents: Vec<Content> = host
        .view()
        .mounts()
        .iter()
        .map(|mount| mount.content)
        .collect();
    let proc = Content::Refused(Refusal::Kernel(KernelFs::Proc));
    let sysfs = Content::Refused(Refusal::Kernel(KernelFs::Sysfs));
    let socket = Content::Refused(Refusal::Socket);
    let device = Content::Refused(Refusal::Device);
    assert_eq!(
        contents,
        [proc, sysfs, proc, proc, socket, device, Content::File]
    );
}

#[test]
fn kernel_file_systems_do_not_come_with_the_whole_node() {
    let mut host = Host::new();
    host.bind("/", "/host", "rbind");
    let view = host.view();
    let brought: BTreeSet<&Path> = view.mounts()[0]
        .brings
        .iter()
        .map(|(at, _)| at.as_path())
        .collect();
    for path in ["/host/proc", "/host/sys"] {
        assert!(
            brought.contains(Path::new(path)),
            "{path} is not in {brought:?}"
        );
    }
    assert_not_found(&host.read("/host/proc/version"));
    assert!(host.read("/host/etc/passwd").is_ok());
    // A shallow bind leaves them behind.
    host.mounts.clear();
    host.bind("/", "/host", "bind");
    assert_eq!(host.view().mounts()[0].brings, []);
    assert_not_found(&host.read("/host/proc/version"));
}

#[test]
fn what_cannot_be_bound_says_so() {
    let mut host = Host::new();
    host.bind(host.path("none"), "/data", "rbind");
    let error = RootfsView::new(&host.path("rootfs"), &host.spec())
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    assert!(
        error.to_string().contains("create it on the node"),
        "{error}"
    );

    host.mounts.clear();
    host.bind("relative", "/data", "rbind");
    let error = RootfsView::new(&host.path("rootfs"), &host.spec())
        .err()
        .unwrap();
    assert!(matches!(error, ViewError::RelativeSource { .. }), "{error}");

    let error = RootfsView::new(&host.path("no-rootfs"), &Spec::default())
        .err()
        .unwrap();
    assert!(matches!(error, ViewError::Root { .. }), "{error}");
}

#[test]
fn the_interpreter_is_the_file_that_was_looked_at() {
    let host = Host::new();
    host.write("rootfs/bin/python.wasm", "\0asm\u{1}\0\0\0first");
    let mut spec = host.spec();
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(vec!["python".to_owned()]));
    spec.set_process(Some(process));
    let Work::Wasm(_, mut file) = decide(&spec, &Policy::default(), &host.view()).unwrap() else {
        panic!("it is Wasm");
    };
    fs::remove_file(host.path("rootfs/bin/python.wasm")).unwrap();
    host.write("rootfs/bin/python.wasm", "\0asm\u{1}\0\0\0second");
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("first"));
}

#[test]
fn a_hostile_interpreter_is_an_error_not_a_wait() {
    let host = Host::new();
    fs::create_dir(host.path("rootfs/bin")).unwrap();
    mkfifo(&host.path("rootfs/bin/python"), Mode::S_IRWXU).unwrap();
    host.link(host.path("secret"), "rootfs/bin/python.wasm");
    let mut spec = host.spec();
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(vec!["python".to_owned()]));
    spec.set_process(Some(process));
    let error = decide(&spec, &Policy::default(), &host.view()).unwrap_err();
    assert!(
        matches!(error, PlanError::ProgramNotFound { .. }),
        "{error}"
    );
}

#[test]
fn mountinfo_is_read_as_proc_5_says() {
    let text = b"22 28 0:21 / /proc rw,nosuid - proc proc rw\n\
        23 28 0:22 / /a\\040b/sys rw shared:7 master:1 - sysfs sysfs rw\n\
        24 28 8:1 / / rw - ext4 /dev/sda1 rw\n\
        garbage\n";
    let mounts: Vec<_> = kernel_mounts(text).collect();
    assert_eq!(
        mounts,
        [
            (PathBuf::from("/proc"), KernelFs::Proc),
            (PathBuf::from("/a b/sys"), KernelFs::Sysfs)
        ]
    );
    assert_eq!(unescape(b"a\\134b\\"), Path::new("a\\b\\"));
}
