//! Mounts of real containers: each option of the spec is what the kernel then says of the mount, or the
//! create is refused in words. As root, on this machine's kernel.

// Other tests use the rest of it.
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;

#[allow(dead_code)]
#[path = "support/guests.rs"]
mod guests;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::{
    fs::{CWD, FileType, Mode, makedev, mknodat},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use serde_json::{Value, json};
use support::TestContainer;
use tempfile::TempDir;

/// A container that shows its mounts, and then does what else `script` says.
fn showing(script: &str) -> TestContainer {
    TestContainer::native(&[
        "sh",
        "-c",
        &format!("busybox cat /proc/self/mountinfo; {script}"),
    ])
}

fn add(container: &mut TestContainer, mounts: impl IntoIterator<Item = Value>) {
    let list = container.spec["mounts"].as_array_mut().expect("mounts");
    list.extend(mounts);
}

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options })
}

/// A mount as proc_pid_mountinfo(5) describes it.
#[derive(Debug)]
struct Seen {
    options: Vec<String>,
    propagation: Vec<String>,
    superblock: Vec<String>,
}

/// The uppermost mount at `point`.
fn seen(mountinfo: &str, point: &str) -> Seen {
    let line = mountinfo
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(point))
        .unwrap_or_else(|| panic!("nothing is mounted on {point}:\n{mountinfo}"));
    let (mount, fs) = line.split_once(" - ").expect("a line of mountinfo");
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    let mut fields = mount.split(' ').skip(5);
    Seen {
        options: words(fields.next().expect("options")),
        propagation: fields.map(str::to_owned).collect(),
        superblock: words(fs.split(' ').next_back().expect("options")),
    }
}

/// A directory of the host with a file system of its own, until the test ends.
struct HostMount(TempDir);

impl HostMount {
    fn new(flags: MsFlags) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        mount_tmpfs(directory.path(), flags);
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn propagate(&self, flags: MsFlags) {
        let none = None::<&str>;
        mount(none, self.path(), none, flags, none).expect("change the propagation");
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn mount_tmpfs(path: &Path, flags: MsFlags) {
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, None::<&str>).expect("mount a tmpfs");
}

#[test]
fn options_of_a_new_file_system_are_set() {
    for (options, expected, superblock) in [
        (
            &["ro", "nosuid", "nodev", "noexec", "nosymfollow", "noatime"][..],
            &["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"][..],
            &[][..],
        ),
        (&["nosuid", "suid", "ro", "rw"], &["rw", "relatime"], &[]),
        (&["strictatime", "nodiratime"], &["rw", "nodiratime"], &[]),
        (&["rro", "rnosuid"], &["ro", "nosuid", "relatime"], &[]),
        (
            &["sync", "dirsync", "lazytime", "size=64k,mode=700"],
            &["rw", "relatime"],
            &["sync", "dirsync", "lazytime", "size=64k", "mode=700"],
        ),
        // Known and of no effect that mountinfo would show.
        (
            &[
                "silent",
                "loud",
                "iversion",
                "noiversion",
                "mand",
                "nomand",
                "async",
                "defaults",
            ],
            &["rw", "relatime"],
            &[],
        ),
    ] {
        let mut container = showing("");
        add(&mut container, [tmpfs("/mnt", options)]);
        let (code, output) = container.run();
        assert_eq!(code, 0, "{options:?}: {output}");
        let seen = seen(&output, "/mnt");
        assert_eq!(seen.options, expected, "{options:?}");
        for option in superblock {
            assert!(
                seen.superblock.iter().any(|o| o == option),
                "{option}: {seen:?}"
            );
        }
    }
}

/// What protects is never dropped, and what the source has stays unless an option takes it.
#[test]
fn options_of_a_bind_mount_are_set_and_cleared() {
    let host = HostMount::new(MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    for (options, expected) in [
        (&["bind"][..], &["rw", "nosuid", "nodev", "relatime"][..]),
        (
            &["bind", "ro", "noexec", "nosymfollow", "noatime"],
            &["ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"],
        ),
        (&["bind", "suid", "dev"], &["rw", "relatime"]),
        (&["bind", "strictatime"], &["rw", "nosuid", "nodev"]),
        // A bind mount cannot have them; nothing is less protected.
        (
            &["rbind", "sync", "silent", "lazytime"],
            &["rw", "nosuid", "nodev", "relatime"],
        ),
    ] {
        let mut container = showing("");
        add(&mut container, [bind(host.path(), "/mnt", options)]);
        let (code, output) = container.run();
        assert_eq!(code, 0, "{options:?}: {output}");
        assert_eq!(seen(&output, "/mnt").options, expected, "{options:?}");
    }
}

#[test]
fn recursive_options_reach_mounts_beneath_and_others_do_not() {
    let host = HostMount::new(MsFlags::empty());
    let inner = host.path().join("inner");
    fs::create_dir(&inner).expect("make");
    mount_tmpfs(&inner, MsFlags::empty());
    for (option, outer, beneath) in [
        ("rro", "ro", "ro"),
        ("ro", "ro", "rw"),
        ("rnosymfollow", "nosymfollow", "nosymfollow"),
        ("nosymfollow", "nosymfollow", "rw"),
    ] {
        let mut container = showing("");
        add(
            &mut container,
            [bind(host.path(), "/mnt", &["rbind", option])],
        );
        let (code, output) = container.run();
        assert_eq!(code, 0, "{output}");
        for (point, expected) in [("/mnt", outer), ("/mnt/inner", beneath)] {
            let seen = seen(&output, point);
            assert!(
                seen.options.iter().any(|o| o == expected),
                "{option}, {point}: {seen:?}"
            );
        }
    }
}

#[test]
fn propagation_of_a_mount_is_what_its_options_say() {
    let host = HostMount::new(MsFlags::empty());
    host.propagate(MsFlags::MS_SHARED);
    let own = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let own = seen(&own, host.path().to_str().expect("UTF-8")).propagation;
    let group = own[0].strip_prefix("shared:").expect("a shared mount");
    let (slave, peer) = (format!("master:{group}"), format!("shared:{group}"));
    for (options, root, expected) in [
        (&["bind"][..], None, Some(&slave)),
        (&["bind", "rslave"], None, Some(&slave)),
        (&["bind", "rprivate"], None, None),
        (&["bind", "private"], None, None),
        // What Kubernetes' Bidirectional and HostToContainer are.
        (&["bind", "rshared"], Some("rshared"), Some(&peer)),
        (&["bind", "rslave"], Some("rslave"), Some(&slave)),
    ] {
        let mut container = showing("");
        add(&mut container, [bind(host.path(), "/mnt", options)]);
        if let Some(root) = root {
            container.spec["linux"]["rootfsPropagation"] = json!(root);
        }
        let (code, output) = container.run();
        assert_eq!(code, 0, "{options:?}: {output}");
        let seen = seen(&output, "/mnt").propagation;
        assert_eq!(seen.first(), expected, "{options:?} {root:?}: {seen:?}");
    }
    let mut container = showing("");
    add(&mut container, [tmpfs("/mnt", &["runbindable"])]);
    let (_, output) = container.run();
    assert_eq!(seen(&output, "/mnt").propagation, ["unbindable"]);
}

#[test]
fn mounts_of_the_host_reach_a_slave_and_not_a_private_one() {
    for (option, expected) in [("rslave", "there\n"), ("rprivate", "not\n")] {
        let host = HostMount::new(MsFlags::empty());
        host.propagate(MsFlags::MS_SHARED);
        let inner = host.path().join("inner");
        fs::create_dir(&inner).expect("make");
        let mut container = TestContainer::native(&[
            "sh",
            "-c",
            "if busybox test -e /mnt/inner/file; then echo there; else echo not; fi",
        ]);
        add(
            &mut container,
            [bind(host.path(), "/mnt", &["rbind", option])],
        );
        container.create().expect("create");
        mount_tmpfs(&inner, MsFlags::empty());
        fs::write(inner.join("file"), "").expect("write");
        container.start().expect("start");
        container.wait();
        assert_eq!(container.output(), expected, "{option}");
    }
}

/// What a guest gets that opens `path` for writing once something was mounted beneath a volume.
fn errno_of_what_arrived(path: &str, option: &str, fs_type: &str) -> i32 {
    let host = HostMount::new(MsFlags::empty());
    host.propagate(MsFlags::MS_SHARED);
    let inner = host.path().join("inner");
    fs::create_dir(&inner).expect("make");
    let mut container = TestContainer::of(&guests::opener(path, 0));
    add(
        &mut container,
        [bind(host.path(), "/mnt", &["rbind", option])],
    );
    container.create().expect("create");
    let none: Option<&str> = None;
    mount(Some(fs_type), &inner, Some(fs_type), MsFlags::empty(), none).expect("mount");
    if fs_type == "tmpfs" {
        fs::write(inner.join("uptime"), "").expect("write");
    }
    container.start().expect("start");
    container.wait()
}

#[test]
fn proc_that_is_mounted_beneath_a_volume_after_create_is_out_of_a_guests_reach() {
    const ACCES: i32 = 2;
    const NOENT: i32 = 44;
    for (fs_type, option, expected) in [
        ("proc", "rslave", ACCES),
        ("proc", "rshared", ACCES),
        // It never arrives.
        ("proc", "rprivate", NOENT),
        ("tmpfs", "rslave", 0),
    ] {
        let errno = errno_of_what_arrived("mnt/inner/uptime", option, fs_type);
        assert_eq!(errno, expected, "{fs_type} on a volume with {option}");
    }
}

/// A late mount keeps the flags that the node has given it, also that it has devices. There the device
/// cgroup refuses.
#[test]
fn device_that_is_mounted_beneath_a_volume_after_create_is_refused_to_a_guest() {
    const PERM: i32 = 63;
    // /dev/fuse, which every user may open elsewhere, and /dev/null.
    for ((major, minor), expected) in [((10, 229), PERM), ((1, 3), 0)] {
        let host = HostMount::new(MsFlags::empty());
        host.propagate(MsFlags::MS_SHARED);
        let inner = host.path().join("inner");
        fs::create_dir(&inner).expect("make");
        let mut container = TestContainer::of(&guests::opener("mnt/inner/node", 0));
        add(
            &mut container,
            [bind(host.path(), "/mnt", &["rbind", "rslave"])],
        );
        container.create().expect("create");
        mount_tmpfs(&inner, MsFlags::empty());
        let mode = Mode::from_raw_mode(0o666);
        let device = makedev(major, minor);
        mknodat(
            CWD,
            inner.join("node"),
            FileType::CharacterDevice,
            mode,
            device,
        )
        .expect("make a node");
        container.start().expect("start");
        assert_eq!(container.wait(), expected, "device {major}:{minor}");
    }
}

#[test]
fn every_propagation_of_the_root_starts_and_no_mount_of_the_container_reaches_the_host() {
    for (name, expected) in [
        ("private", None),
        ("rprivate", None),
        ("slave", None),
        ("rslave", None),
        ("shared", Some("shared:")),
        ("rshared", Some("shared:")),
        ("unbindable", Some("unbindable")),
        ("runbindable", Some("unbindable")),
    ] {
        let mut container = showing("");
        container.spec["linux"]["rootfsPropagation"] = json!(name);
        // Its run asserts that no mount of its bundle is left on the host.
        let (code, output) = container.run();
        assert_eq!(code, 0, "{name}: {output}");
        let root = seen(&output, "/").propagation;
        match expected {
            Some(expected) => assert!(root[0].starts_with(expected), "{name}: {root:?}"),
            None => assert!(
                root.iter().all(|field| field.starts_with("master:")),
                "{name}: {root:?}"
            ),
        }
    }
    let mut container = showing("");
    container.spec["linux"]["rootfsPropagation"] = json!("sideways");
    let error = container
        .create()
        .expect_err("no such propagation")
        .to_string();
    assert!(
        error.contains("linux.rootfsPropagation: \"sideways\""),
        "{error}"
    );
    container.assert_nothing_left();
}

#[test]
fn tmpfs_takes_the_mode_and_with_tmpcopyup_the_content_of_what_it_hides() {
    let mut container = showing(
        "busybox stat -c %a /plain /copied /copied/file /new /said; busybox cat /copied/file; \
         echo x >/copied/file; busybox readlink /copied/link",
    );
    let root = container.root();
    for (name, mode) in [("plain", 0o1770), ("copied", 0o711), ("said", 0o711)] {
        fs::create_dir(root.join(name)).expect("make");
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join(name), mode).expect("chmod");
    }
    fs::write(root.join("copied/file"), "text\n").expect("write");
    fs::set_permissions(root.join("copied/file"), fs::Permissions::from_mode(0o640))
        .expect("chmod");
    symlink("/etc", root.join("copied/link")).expect("link");
    add(
        &mut container,
        [
            tmpfs("/plain", &[]),
            tmpfs("/copied", &["tmpcopyup"]),
            tmpfs("/new", &["tmpcopyup"]),
            tmpfs("/said", &["mode=1777"]),
        ],
    );
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let output = container.output();
    assert!(
        output.ends_with("\n1770\n711\n640\n1777\n1777\ntext\n/etc\n"),
        "{output}"
    );
    let image = fs::read_to_string(root.join("copied/file")).expect("read");
    assert_eq!(image, "text\n");
}

/// Places for other mounts have to be made in it first.
#[test]
fn a_read_only_tmpfs_may_hold_other_mounts() {
    let mut container =
        showing("busybox touch /run/x /dev/x; busybox touch /run/inner/x && echo ok");
    let mounts = container.spec["mounts"].as_array_mut().expect("mounts");
    let dev = mounts
        .iter_mut()
        .find(|mount| mount["destination"] == "/dev");
    dev.expect("/dev")["options"] = json!(["nosuid", "mode=755", "ro"]);
    add(
        &mut container,
        [tmpfs("/run", &["ro"]), tmpfs("/run/inner", &[])],
    );
    let (_, output) = container.run();
    for path in ["/run", "/dev"] {
        assert_eq!(seen(&output, path).options[0], "ro");
        assert!(
            output.contains(&format!("touch: {path}/x: Read-only")),
            "{output}"
        );
    }
    assert!(output.ends_with("ok\n"), "{output}");
}

#[test]
fn idmap_option_maps_owners_of_a_mount() {
    // Not a tmpfs, whose owners can be mapped only since Linux 6.3.
    let host = tempfile::tempdir().expect("directory");
    for (name, owner) in [("root", 0), ("user", 1000)] {
        let path = host.path().join(name);
        fs::write(&path, "").expect("write");
        chown(&path, Some(owner), Some(owner)).expect("chown");
    }
    let maps = json!([
        { "containerID": 0, "hostID": 5000, "size": 1 },
        { "containerID": 1000, "hostID": 7000, "size": 10 },
    ]);
    for options in [&["bind"][..], &["bind", "idmap"], &["rbind", "ridmap"]] {
        let mut container = showing("busybox stat -c '%u %g' /mnt/root /mnt/user");
        let mut mount = bind(host.path(), "/mnt", options);
        mount["uidMappings"] = maps.clone();
        mount["gidMappings"] = maps.clone();
        add(&mut container, [mount]);
        let (_, output) = container.run();
        assert!(output.ends_with("\n5000 5000\n7000 7000\n"), "{output}");
    }
}

#[test]
fn impossible_mount_fails_the_create_and_the_error_says_why() {
    let map = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    let with_users = |mut mount: Value| {
        mount["uidMappings"] = map.clone();
        mount
    };
    for (mount, words) in [
        (
            tmpfs("/mnt", &["turbo=9"]),
            &["on /mnt", "option \"turbo=9\"", "Unknown parameter 'turbo'"][..],
        ),
        (tmpfs("/mnt", &["remount"]), &["on /mnt", "remount"]),
        (tmpfs("/", &[]), &["over \"/\""]),
        (tmpfs("/data/..", &[]), &["over \"/"]),
        (
            tmpfs("/proc", &[]),
            &["on /proc", "only a proc file system"],
        ),
        (
            tmpfs("/proc/self", &[]),
            &["on /proc/self", "inside of /proc"],
        ),
        (
            tmpfs("/mnt", &["idmap"]),
            &["only a bind mount can map owners"],
        ),
        (
            bind(Path::new("/etc"), "/mnt", &["bind", "idmap"]),
            &["a container with a user namespace"],
        ),
        (
            with_users(bind(Path::new("/etc"), "/mnt", &["bind"])),
            &["give it both"],
        ),
        (
            {
                let mut mount = with_users(bind(Path::new("/sys/kernel"), "/mnt", &["bind"]));
                mount["gidMappings"] = map.clone();
                mount
            },
            &["on /mnt", "cannot map the owners", "of another file system"],
        ),
        (
            bind(Path::new("/nowhere"), "/mnt", &["bind"]),
            &["\"/nowhere\"", "\"/mnt\"", "No such file"],
        ),
        (
            json!({ "destination": "/mnt", "source": "x" }),
            &["on /mnt", "no type"],
        ),
        (
            json!({ "destination": "/mnt", "type": "nofs", "source": "x" }),
            &["a file system of type \"nofs\"", "No such device"],
        ),
        (
            json!({ "destination": "/link/sys", "type": "sysfs", "source": "sysfs" }),
            &["on /link/sys", "symlink"],
        ),
    ] {
        let mut container = showing("");
        symlink("/data", container.root().join("link")).expect("link");
        add(&mut container, [mount.clone()]);
        let error = container
            .create()
            .expect_err(&mount.to_string())
            .to_string();
        for word in words {
            assert!(error.contains(word), "{mount}: {error}");
        }
        container.assert_nothing_left();
    }
}

/// What an image has there does not lead a mount, a device or a link to the host.
#[test]
fn symlinks_of_the_image_lead_no_mount_out_of_the_root() {
    let outside = tempfile::tempdir().expect("outside");
    fs::create_dir(outside.path().join("x")).expect("make");
    let mut container = showing("");
    symlink(outside.path(), container.root().join("away")).expect("link");
    let inside = container
        .root()
        .join(outside.path().strip_prefix("/").expect("absolute"));
    fs::create_dir_all(inside).expect("make");
    add(
        &mut container,
        [tmpfs("/away/x", &[]), tmpfs("/away/y", &[])],
    );
    container.spec["linux"]["devices"] =
        json!([{ "path": "/dev/sub/null", "type": "c", "major": 1, "minor": 3 }]);
    let (code, output) = container.run();
    assert_eq!(code, 0, "{output}");
    let at = |name: &str| outside.path().join(name).display().to_string();
    seen(&output, &at("x"));
    seen(&output, &at("y"));
    let mut names: Vec<_> = fs::read_dir(outside.path())
        .expect("read")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["x"]);
}

/// Destinations are resolved and checked before anything is mounted, so a symlink that comes later leads
/// no mount and no device to a place that was not checked. Another container that shares a volume can
/// make one at any time; here `tmpcopyup` brings it.
#[test]
fn symlink_that_appears_after_the_check_is_refused() {
    let mut container = showing("");
    let root = container.root();
    fs::create_dir(root.join("copied")).expect("make");
    symlink("/dev", root.join("copied/link")).expect("link");
    for destination in ["/copied/link", "/copied/link/sub"] {
        container.spec["mounts"]
            .as_array_mut()
            .expect("mounts")
            .truncate(2);
        add(
            &mut container,
            [tmpfs("/copied", &["tmpcopyup"]), tmpfs(destination, &[])],
        );
        let error = container.create().expect_err(destination).to_string();
        let words = format!("on {destination}: a symlink is on the way");
        assert!(error.contains(&words), "{error}");
        container.assert_nothing_left();
    }
}

/// The runner opens each before it forks, so that the sockets which it talks through have high numbers.
#[test]
fn container_may_have_more_than_a_thousand_mounts() {
    // Some machines give tests 1,024 descriptors. containerd's service has more.
    let held = getrlimit(Resource::Nofile);
    let enough = Rlimit {
        current: held.maximum,
        ..held
    };
    setrlimit(Resource::Nofile, enough).expect("raise the limit of descriptors");
    let file = tempfile::NamedTempFile::new().expect("file");
    let mut container = TestContainer::native(&["sh", "-c", "busybox wc -l </proc/self/mountinfo"]);
    let mounts = (0..1100).map(|n| bind(file.path(), &format!("/mnt/{n}"), &["bind"]));
    add(&mut container, mounts);
    let (code, output) = container.run();
    assert_eq!(code, 0, "{output}");
    let lines: usize = output.trim().parse().expect("a number");
    assert!(lines > 1100, "{lines}");
}

#[test]
fn read_only_cgroup_mount_cannot_be_written() {
    let mut container = showing("busybox mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x");
    add(
        &mut container,
        [
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
        ],
    );
    let (_, output) = container.run();
    assert_eq!(seen(&output, "/sys/fs/cgroup").options[0], "ro");
    if !support::cgroups::unified() {
        let own = seen(&output, "/sys/fs/cgroup/pids");
        assert_eq!(own.options, ["ro", "nosuid", "nodev", "noexec", "relatime"]);
        assert!(output.contains("pids/x': Read-only"), "{output}");
    }
}
