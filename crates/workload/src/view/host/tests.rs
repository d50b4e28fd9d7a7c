//! The real view against hostile root filesystems.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::unistd::mkfifo;
use oci_spec::runtime::{LinuxBuilder, LinuxNamespaceBuilder, Mount, MountBuilder};
use tempfile::TempDir;

use super::*;
use crate::view::FileKind;
use crate::{ErrorKind, PlanError, Planned, Policy, decide};

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
fn listed_directory_is_beneath_the_root() {
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
fn dot_dot_never_leaves_the_root() {
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
    // A bind mount of the host's proc is refused.
    host.bind("/proc", "/proc", "rbind");
    assert_not_found(&host.read("/file"));
}

/// A volume over the root would replace the image that was checked, and its /dev.
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
fn symlink_loop_is_an_error() {
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
fn long_names_and_long_paths_are_resolved_or_not_found() {
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
    // To open a FIFO blocks until there is a writer. Another thread opens it, so that a wrong open fails this
    // test instead of blocking it.
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for path in ["/fifo", "/socket", "/directory", "/null", "/"] {
            done.send((path, host.read(path))).unwrap();
        }
    });
    for _ in 0..5 {
        let (path, result) = result.recv_timeout(Duration::from_secs(120)).unwrap();
        assert!(
            matches!(result, Err(ViewError::NotRegular { .. })),
            "{path}: {result:?}"
        );
    }
}

#[test]
fn a_directory_that_becomes_a_symlink_is_not_followed() {
    // The walk found a directory. Before the next access the image's owner replaces it.
    let host = Host::new();
    host.link(host.path(""), "rootfs/swapped");
    let tree = HostTree::open(&host.path("rootfs"), BindDepth::Recursive).unwrap();
    let error = tree.open(Path::new("swapped/secret")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
    assert_eq!(
        tree.entry(Path::new("../secret")).unwrap(),
        TreeEntry::Missing
    );
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
    // `..` leads from a mount to the directory in which it is mounted.
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
fn symlinks_within_a_mount_resolve_in_the_container() {
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
    // It is not mounted, so the image's files are visible there.
    assert_eq!(host.read("/proc/x").unwrap(), "of the image");
}

#[test]
fn kernel_file_systems_sockets_and_devices_are_refused_for_a_guest() {
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
    let contents: Vec<MountContent> = host
        .view()
        .mounts()
        .iter()
        .map(|mount| mount.content)
        .collect();
    let proc = MountContent::Refused(MountRefusal::Kernel(KernelFs::Proc));
    let sysfs = MountContent::Refused(MountRefusal::Kernel(KernelFs::Sysfs));
    let socket = MountContent::Refused(MountRefusal::Socket);
    let device = MountContent::Refused(MountRefusal::Device);
    assert_eq!(
        contents,
        [proc, sysfs, proc, proc, socket, device, MountContent::File]
    );
}

#[test]
fn kernel_file_systems_beneath_a_recursive_bind_are_masked() {
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
    // A non-recursive bind leaves them out.
    host.mounts.clear();
    host.bind("/", "/host", "bind");
    assert_eq!(host.view().mounts()[0].brings, []);
    assert_not_found(&host.read("/host/proc/version"));
}

#[test]
fn missing_or_relative_bind_source_is_an_error() {
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
fn interpreter_stays_the_file_that_was_checked() {
    let host = Host::new();
    host.write("rootfs/bin/python.wasm", "\0asm\u{1}\0\0\0first");
    let mut spec = host.spec();
    let mut process = spec.process().clone().unwrap();
    process.set_args(Some(vec!["python".to_owned()]));
    spec.set_process(Some(process));
    let Planned::Wasm(_, mut file) = decide(&spec, &Policy::default(), &host.view()).unwrap()
    else {
        panic!("it is Wasm");
    };
    fs::remove_file(host.path("rootfs/bin/python.wasm")).unwrap();
    host.write("rootfs/bin/python.wasm", "\0asm\u{1}\0\0\0second");
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("first"));
}

#[test]
fn fifo_or_link_out_of_the_root_is_no_interpreter() {
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
fn only_kernel_file_systems_are_listed() {
    let text = b"22 28 0:21 / /proc rw,nosuid - proc proc rw\n\
        23 28 0:22 / /a\\040b/sys rw shared:7 master:1 - sysfs sysfs rw\n\
        24 28 8:1 / / rw - ext4 /dev/sda1 rw\n\
        garbage\n";
    let mounts: Vec<_> = kernel_mounts(mountinfo::parse(text)).collect();
    assert_eq!(
        mounts,
        [
            (PathBuf::from("/proc"), KernelFs::Proc),
            (PathBuf::from("/a b/sys"), KernelFs::Sysfs)
        ]
    );
}

/// A pod with `hostNetwork` has the path of a namespace like any other.
#[test]
fn network_of_the_node_is_known_by_its_namespace() {
    let network = |path: Option<Option<&str>>| {
        let namespaces = path.map(|path| {
            let mut namespace = LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network);
            if let Some(path) = path {
                namespace = namespace.path(path);
            }
            namespace.build().unwrap()
        });
        let linux = LinuxBuilder::default().namespaces(Vec::from_iter(namespaces));
        let mut spec = Spec::default();
        spec.set_linux(Some(linux.build().unwrap()));
        let host = Host::new();
        let view = RootfsView::new(&host.path("rootfs"), &spec).unwrap();
        view.network().map_err(|error| error.to_string())
    };
    assert_eq!(
        network(None),
        Ok(HostNetwork::Shared),
        "it stays where it is"
    );
    assert_eq!(network(Some(None)), Ok(HostNetwork::Separate), "a new one");
    let own = Some(Some("/proc/self/ns/net"));
    assert_eq!(network(own), Ok(HostNetwork::Shared));
    // Another namespace than the network's, so that the test needs no rights.
    let other = Some(Some("/proc/self/ns/uts"));
    assert_eq!(network(other), Ok(HostNetwork::Separate));
    let missing = network(Some(Some("/nonexistent/net"))).unwrap_err();
    assert!(
        missing.contains("cannot look at the network namespace"),
        "{missing}"
    );
}

/// Guards against an image whose names cost a look-up of each of its directories again and again.
#[test]
fn look_ups_of_an_image_end_after_some_work() {
    let host = Host::new();
    let deep = format!("/{}", ["a"; 100].join("/"));
    for link in 1..39 {
        host.link(
            format!("{deep}/{}", link + 1),
            &format!("rootfs{deep}/{link}"),
        );
    }
    host.write(&format!("rootfs{deep}/39/there"), "");
    host.link(format!("{deep}/1"), "rootfs/l");
    let view = host.view();
    let path = Path::new("/l/there");
    assert_eq!(view.resolve(path).unwrap().kind, FileKind::Regular);
    let error = (0..20).find_map(|_| view.resolve(path).err()).unwrap();
    assert!(matches!(error, ViewError::TooMuchWork { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
    // Later look-ups fail too, in the words of the first, and so do mounts.
    let error = view.open(Path::new("/l")).unwrap_err();
    assert!(matches!(error, ViewError::TooMuchWork { .. }), "{error}");

    let mut host = host;
    for mount in 0..20 {
        host.bind("/", &format!("/l/{mount}"), "bind");
    }
    for error in [
        RootfsView::new(&host.path("rootfs"), &host.spec()).err(),
        mount_places(&host.path("rootfs"), &host.spec()).err(),
    ] {
        assert!(
            matches!(error, Some(ViewError::TooMuchWork { .. })),
            "{error:?}"
        );
    }
}

#[test]
fn steps_up_cost_work_too() {
    let host = Host::new();
    fs::create_dir(host.path("rootfs/a")).unwrap();
    let climbing = PathBuf::from(format!("/{}", "a/../".repeat(1 << 20)));
    let error = host.view().resolve(&climbing).unwrap_err();
    assert!(matches!(error, ViewError::TooMuchWork { .. }), "{error}");
    let up = PathBuf::from(format!("/{}", "../".repeat(1 << 20)));
    let view = host.view();
    let error = (0..8).find_map(|_| view.resolve(&up).err()).unwrap();
    assert!(matches!(error, ViewError::TooMuchWork { .. }), "{error}");
}

#[test]
fn view_of_a_cancelled_request_looks_nothing_up() {
    let mut host = Host::new();
    host.write("rootfs/etc/passwd", "of the image");
    let cancelled = Arc::new(AtomicBool::new(false));
    let view = |host: &Host| {
        let root = open_root(&host.path("rootfs")).unwrap();
        RootfsView::beneath_until(root, &host.spec(), Arc::clone(&cancelled))
    };
    let found = view(&host).unwrap();
    let path = Path::new("/etc/passwd");
    found.resolve(path).unwrap();
    cancelled.store(true, std::sync::atomic::Ordering::Release);
    let error = found.open(path).unwrap_err();
    assert!(matches!(error, ViewError::Cancelled), "{error}");
    host.bind("/", "/data", "bind");
    assert!(matches!(view(&host).err(), Some(ViewError::Cancelled)));
}

/// A hidden mount, one beneath another, and a directory that exists only because of a mount.
#[test]
fn last_of_the_mounts_over_a_path_counts_at_each_depth() {
    let mut host = Host::new();
    for (source, text) in [("one", "1"), ("two", "2"), ("three", "3")] {
        host.write(&format!("{source}/file"), text);
        host.write(&format!("{source}/in/file"), text);
    }
    host.bind(host.path("one"), "/v", "bind");
    host.bind(host.path("two"), "/v/in", "bind");
    host.bind(host.path("three"), "/v/new/deep", "bind");
    assert_eq!(host.read("/v/file").unwrap(), "1");
    assert_eq!(host.read("/v/in/in/file").unwrap(), "2");
    assert_eq!(host.read("/v/in/../file").unwrap(), "1");
    assert_eq!(host.read("/v/new/deep/file").unwrap(), "3");
    assert_eq!(host.read("/v/new/deep/../../in/file").unwrap(), "2");
    host.bind(host.path("three"), "/v", "bind");
    assert_eq!(host.read("/v/in/file").unwrap(), "3");
    assert_not_found(&host.read("/v/new/deep/file"));
}

/// Guards against a step for each name of a path that the kernel does not take.
#[test]
fn mount_whose_path_is_too_long_is_an_error() {
    let mut host = Host::new();
    let name = "n".repeat(200);
    let half = ["n".repeat(199).as_str(); 11].join("/");
    fs::create_dir_all(host.path(&format!("rootfs/{half}"))).unwrap();
    host.link(format!("/{half}"), &format!("rootfs/{half}/again"));
    host.link(format!("/{half}/again"), "rootfs/short");
    let longest = format!("/{}", [name.as_str(); 20].join("/"));
    for (destination, fits) in [
        (format!("{longest}/{}", "n".repeat(4095 - 4020 - 1)), true),
        (format!("{longest}/{}", "n".repeat(4095 - 4020)), false),
        ("/n".repeat(700_000), false),
        // Names that do not exist, beneath what a link leads to.
        (format!("/short/{}", [name.as_str(); 9].join("/")), true),
        (format!("/short/{}", [name.as_str(); 10].join("/")), false),
    ] {
        host.mounts.clear();
        host.bind("/", &destination, "bind");
        let rootfs = host.path("rootfs");
        let error = RootfsView::new(&rootfs, &host.spec()).err();
        let placed = mount_places(&rootfs, &host.spec()).err();
        for error in [error, placed] {
            match error {
                None => assert!(fits, "{} bytes", destination.len()),
                Some(error) => {
                    let long = matches!(error, ViewError::LongDestination { .. });
                    assert!(long && !fits, "{error}");
                    assert!(error.to_string().len() < 1500, "{error}");
                }
            }
        }
    }
}

#[test]
fn spec_with_too_many_mounts_is_refused() {
    let mut host = Host::new();
    let memory = |number| {
        let mount = MountBuilder::default().destination(format!("/v/{number}"));
        mount.typ("tmpfs").source("tmpfs").build().unwrap()
    };
    host.mounts = (0..4096).map(memory).collect();
    let rootfs = host.path("rootfs");
    assert_eq!(mount_places(&rootfs, &host.spec()).unwrap().len(), 4096);
    host.bind("/", "/w", "bind");
    for error in [
        RootfsView::new(&rootfs, &host.spec()).err(),
        mount_places(&rootfs, &host.spec()).err(),
    ] {
        let error = error.unwrap();
        assert!(
            matches!(error, ViewError::TooManyMounts { count: 4097, .. }),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
