//! Layers of an image, laid over each other in a directory: whatever they hold, nothing outside changes.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;

use libfuzzer_sys::fuzz_target;
use rustix::process::{Resource, Rlimit, setrlimit};
use tar::{EntryType, Header};
use wasm_interp_fuzz::{planted, scratch};
use wasm_interp_image::fuzzing::apply_layers;

const STEPS: &[&str] = &[
    "a",
    "b",
    "c",
    "..",
    ".",
    "/",
    ".wh.a",
    ".wh.b",
    ".wh..wh..opq",
    ".wh..wh.plnk",
    ".wh.",
    ".wh...",
    "outside",
    "canary",
    "",
    "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
];
/// The most directories in one another, so that they can be removed with the usual limit of open files.
const DEEPEST: usize = 512;
/// The largest file that a layer may make here, so that a sparse one fills no memory.
const MOST: u64 = 1 << 20;

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    /// One layer of any bytes.
    Bytes(&'a [u8]),
    Made(Vec<Vec<Item>>),
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Item {
    kind: Kind,
    name: [u8; 3],
    link: [u8; 3],
    mode: u16,
    content: u8,
    attribute: Option<Attribute>,
}

#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
enum Kind {
    File,
    Directory,
    Link,
    HardLink,
    Fifo,
    Device,
    Sparse,
    Continuous,
    Odd(u8),
}

#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
enum Attribute {
    User,
    Overlay,
    Size(u8),
}

fn path(steps: [u8; 3]) -> String {
    steps
        .map(|step| STEPS[usize::from(step) % STEPS.len()])
        .join("/")
}

fn layer(items: &[Item]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = Header::new_ustar();
        let kind = match item.kind {
            Kind::File => EntryType::Regular,
            Kind::Directory => EntryType::Directory,
            Kind::Link => EntryType::Symlink,
            Kind::HardLink => EntryType::Link,
            Kind::Fifo => EntryType::Fifo,
            Kind::Device => EntryType::Block,
            Kind::Sparse => EntryType::GNUSparse,
            Kind::Continuous => EntryType::Continuous,
            Kind::Odd(byte) => EntryType::new(byte),
        };
        // Past the checks of the library, which writes no name that climbs.
        let put =
            |field: &mut [u8], text: &str| field[..text.len()].copy_from_slice(text.as_bytes());
        put(&mut header.as_mut_bytes()[..100], &path(item.name));
        put(&mut header.as_mut_bytes()[157..257], &path(item.link));
        let content = vec![
            item.content;
            if kind == EntryType::Regular {
                item.content.into()
            } else {
                0
            }
        ];
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(item.mode.into());
        header.set_uid(item.content.into());
        header.set_gid(0);
        header.set_mtime(item.mode.into());
        header.set_cksum();
        let size;
        let attribute: Option<(&str, &[u8])> = match item.attribute {
            Some(Attribute::User) => Some(("SCHILY.xattr.user.a", b"x")),
            Some(Attribute::Overlay) => Some(("SCHILY.xattr.trusted.overlay.redirect", b"/etc")),
            Some(Attribute::Size(bytes)) => {
                size = bytes.to_string();
                Some(("size", size.as_bytes()))
            }
            None => None,
        };
        tar.append_pax_extensions(attribute).expect("extensions");
        tar.append(&header, content.as_slice()).expect("an entry");
    }
    tar.into_inner().expect("an archive")
}

/// Each name beneath `root` with what is there, and when it was modified if all of it was `unpacked`.
fn listing(root: &Path, at: &Path, unpacked: bool, into: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(at).expect("a directory") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        let kind = metadata.file_type();
        assert!(
            !kind.is_block_device() && !kind.is_char_device(),
            "{path:?} is a device"
        );
        let content = if kind.is_symlink() {
            format!("{:?}", fs::read_link(&path).expect("a link"))
        } else if kind.is_file() {
            format!("{:?}", fs::read(&path).expect("a file"))
        } else {
            String::new()
        };
        // A directory that no entry names has the time at which it was made, and so has the file of an
        // entry that failed.
        let time = if kind.is_dir() || !unpacked {
            0
        } else {
            metadata.mtime()
        };
        let what = format!("{:o} {} {time} {content}", metadata.mode(), metadata.uid());
        into.insert(path.strip_prefix(root).expect("beneath").to_owned(), what);
        if kind.is_dir() {
            listing(root, &path, unpacked, into);
        }
    }
}

fn unpacked(destination: &Path, layers: &[Vec<u8>]) -> (String, BTreeMap<PathBuf, String>) {
    fs::create_dir(destination).expect("a directory");
    // A thread, because its root directory changes.
    let result = thread::scope(|scope| scope.spawn(|| apply_layers(destination, layers)).join());
    let result = result.expect("no panic");
    let mut files = BTreeMap::new();
    listing(destination, destination, result.is_ok(), &mut files);
    (
        format!("{:?}", result.map_err(|error| error.to_string())),
        files,
    )
}

fn once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        assert!(
            rustix::process::geteuid().is_root(),
            "run as root: images are unpacked as root"
        );
        let limit = Some(MOST);
        setrlimit(
            Resource::Fsize,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )
        .expect("a limit");
    });
}

fuzz_target!(|input: Input<'_>| {
    once();
    let layers = match input {
        Input::Bytes(bytes) => vec![bytes.to_vec()],
        Input::Made(layers) => layers
            .iter()
            .take(4)
            .map(|items| layer(&items[..items.len().min(12)]))
            .collect(),
    };
    let directory = scratch::directory().join("layers");
    let _ = fs::remove_dir_all(&directory);
    let outside = directory.join("outside");
    fs::create_dir_all(&outside).expect("a directory");
    fs::write(outside.join("canary"), "alive").expect("a file");

    let (result, files) = unpacked(&directory.join("root"), &layers);
    let again = unpacked(&directory.join("again"), &layers);
    assert_eq!(
        (&result, &files),
        (&again.0, &again.1),
        "equal layers give equal files"
    );
    for (path, what) in &files {
        let above = path.components().count() - 1;
        assert!(above <= DEEPEST, "{above} directories are above a file");
        // A directory above a file may be called so; what a layer itself calls so is a whiteout.
        let is_directory = what.starts_with("4");
        let is_whiteout = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".wh."));
        assert!(
            is_directory || !is_whiteout,
            "{path:?} is no file of an image"
        );
    }

    let mut there: Vec<_> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    there.sort();
    assert_eq!(
        there,
        ["again", "outside", "root"],
        "nothing outside changes"
    );
    assert_eq!(
        fs::read_to_string(outside.join("canary")).expect("it is there"),
        "alive"
    );
    assert_eq!(
        fs::read_dir(&outside).expect("it is there").count(),
        1,
        "nothing outside changes"
    );
    planted(layers.len() > 1 && result.starts_with("Ok") && files.len() > 2);
});
