//! The view over a hostile tree on disk, compared with the kernel's own walk beneath that root.
#![no_main]

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mknodat, open, openat2};
use rustix::io::Errno;
use serde_json::json;
use wasm_interp_fuzz::plans::is_plain;
use wasm_interp_fuzz::{described, planted, scratch};
use wasm_interp_workload::{FileKind, RootfsView, View, ViewError, mount_places};

const NAMES: &[&str] = &["a", "b", "c", "dev", "é"];

#[derive(Debug)]
struct Input {
    root: Vec<Node>,
    source: Vec<Node>,
    mounts: Vec<(String, bool)>,
    paths: Vec<String>,
}

#[derive(Debug)]
struct Node {
    /// Of the directories made so far; the target never writes through a name of the tree.
    parent: usize,
    name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    File,
    Fifo,
    Link(Vec<u8>),
}

/// Steps from a few names, so that they often lead somewhere.
fn path(input: &mut Unstructured<'_>) -> Result<String> {
    let mut path = String::from(if input.ratio(1, 3)? { "/" } else { "" });
    for step in 0..input.int_in_range(1..=6)? {
        if step > 0 {
            path.push('/');
        }
        path.push_str(if input.ratio(1, 4)? {
            ".."
        } else {
            input.choose(NAMES)?
        });
    }
    Ok(path)
}

fn tree(input: &mut Unstructured<'_>) -> Result<Vec<Node>> {
    (0..input.int_in_range(0..=10)?)
        .map(|_| {
            Ok(Node {
                parent: input.arbitrary::<u8>()?.into(),
                name: input.choose(NAMES)?,
                kind: match input.int_in_range(0..=7)? {
                    0..=2 => Kind::Directory,
                    3 => Kind::File,
                    4 => Kind::Fifo,
                    5 => Kind::Link(b"/proc/self/root/etc".to_vec()),
                    _ => Kind::Link(path(input)?.into_bytes()),
                },
            })
        })
        .collect()
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let mounts = input.int_in_range(0..=3)?;
        let paths = input.int_in_range(1..=5)?;
        Ok(Self {
            root: tree(input)?,
            source: tree(input)?,
            mounts: (0..mounts)
                .map(|_| Ok((path(input)?, input.arbitrary()?)))
                .collect::<Result<_>>()?,
            paths: (0..paths).map(|_| path(input)).collect::<Result<_>>()?,
        })
    }
}

fn make(root: &Path, nodes: &[Node]) {
    fs::create_dir(root).expect("a root");
    let mut directories = vec![root.to_owned()];
    for node in nodes {
        let path = directories[node.parent % directories.len()].join(node.name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &node.kind {
            Kind::Directory => {
                fs::create_dir(&path).expect("a directory");
                directories.push(path);
            }
            Kind::File => fs::write(&path, "content").expect("a file"),
            Kind::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("a FIFO"),
            Kind::Link(target) => symlink(OsStr::from_bytes(target), &path).expect("a link"),
        }
    }
}

fn place(fd: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).expect("/proc")
}

/// What the kernel finds at `path` with `root` as the root directory.
fn kernels(root: &OwnedFd, path: &Path) -> std::result::Result<(PathBuf, FileKind), Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel gives up at `..` if a file is renamed anywhere on the machine meanwhile.
    let found = loop {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            found => break found?,
        }
    };
    let kind = match FileType::from_raw_mode(fstat(&found)?.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::RegularFile => FileKind::Regular,
        _ => FileKind::Other,
    };
    let beneath = place(&found)
        .strip_prefix(place(root))
        .expect("beneath the root")
        .to_owned();
    Ok((Path::new("/").join(beneath), kind))
}

fn compare(root: &OwnedFd, view: &RootfsView, path: &Path) {
    let found = view.resolve(path);
    match (kernels(root, path), &found) {
        (Ok((place, kind)), Ok(resolved)) => {
            assert_eq!((&place, kind), (&resolved.path, resolved.kind), "{path:?}");
            // A file of the image is opened, and nothing else is.
            match view.open(path) {
                Ok(file) => {
                    assert_eq!(kind, FileKind::Regular);
                    let path = place.strip_prefix("/").expect("absolute");
                    let theirs = open_beneath(root, path);
                    let ours = fstat(&file).expect("stat");
                    assert_eq!((ours.st_dev, ours.st_ino), (theirs.st_dev, theirs.st_ino));
                }
                Err(error) => assert!(kind != FileKind::Regular, "{path:?}: {error}"),
            }
            planted(resolved.detour);
        }
        (Err(Errno::NOENT | Errno::NOTDIR), Err(ViewError::NotFound { .. }))
        | (Err(Errno::LOOP), Err(ViewError::Loop { .. })) => {}
        (theirs, _) => panic!(
            "{path:?}: the kernel finds {theirs:?}, the view {}",
            described(&found)
        ),
    }
}

fn open_beneath(root: &OwnedFd, path: &Path) -> rustix::fs::Stat {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = openat2(root, path, flags, Mode::empty(), resolve).expect("it has no symlink");
    fstat(&file).expect("stat")
}

fn check(input: &Input, directory: &Path) {
    let (rootfs, source) = (directory.join("rootfs"), directory.join("source"));
    make(&rootfs, &input.root);
    make(&source, &input.source);
    let root = open(&rootfs, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("root");
    let spec = |mounts: Vec<serde_json::Value>| -> Spec {
        serde_json::from_value(json!({ "ociVersion": "1.1.0", "mounts": mounts })).expect("a spec")
    };
    let view = RootfsView::new(&rootfs, &spec(Vec::new())).expect("a view");
    for path in &input.paths {
        compare(&root, &view, &Path::new("/").join(path));
    }

    let spec = spec(
        input
            .mounts
            .iter()
            .map(|(destination, is_bind)| match is_bind {
                true => json!({
                    "destination": destination, "type": "bind", "source": source,
                    "options": ["rbind"],
                }),
                false => json!({ "destination": destination, "type": "tmpfs" }),
            })
            .collect(),
    );
    let mounted = RootfsView::new(&rootfs, &spec);
    let places = mount_places(&rootfs, &spec);
    let (Ok(mounted), Ok(places)) = (&mounted, &places) else {
        assert!(
            mounted.is_err() && places.is_err(),
            "both ways of looking at mounts agree"
        );
        return;
    };
    let points: Vec<_> = mounted
        .mounts()
        .iter()
        .map(|point| point.path.clone())
        .collect();
    assert_eq!(&points, places, "both ways of looking at mounts agree");
    for place in places {
        assert!(is_plain(place) && place != Path::new("/"), "{place:?}");
    }
    for path in &input.paths {
        let path = Path::new("/").join(path);
        let Ok(resolved) = mounted.resolve(&path) else {
            continue;
        };
        assert!(is_plain(&resolved.path), "{resolved:?}");
        let again = mounted
            .resolve(&resolved.path)
            .expect("what is resolved is there");
        assert_eq!(
            (&again.path, again.kind, again.detour),
            (&resolved.path, resolved.kind, false)
        );
        if let Ok(file) = mounted.open(&path) {
            let place = place(
                &File::as_fd(&file)
                    .try_clone_to_owned()
                    .expect("a descriptor"),
            );
            assert!(
                place.starts_with(directory),
                "{place:?} is no file of the container"
            );
            assert!(!place.components().any(|part| part == Component::ParentDir));
        }
        if resolved.kind == FileKind::Directory {
            let names = mounted.names(&path, 8).expect("a directory is listed");
            for name in names {
                let name = resolved.path.join(name);
                let found = mounted.resolve(&name);
                let leads_away = matches!(
                    found,
                    Err(ViewError::NotFound { .. } | ViewError::Loop { .. })
                );
                assert!(found.is_ok() || leads_away, "{}", described(&found));
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let directory = scratch::directory().join("view");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("a directory");
    check(&input, &directory);
});
