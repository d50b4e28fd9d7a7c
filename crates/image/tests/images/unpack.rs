//! Layers are unpacked as the image specification says, also hostile ones.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{Layer, Layout, Packing, unpack};
use wasm_interp_image::UnpackedImage;

struct Unpacked {
    _cache: tempfile::TempDir,
    image: UnpackedImage,
}

impl Unpacked {
    fn path(&self, name: &str) -> PathBuf {
        self.image.rootfs().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn image(layers: Vec<Layer>) -> Unpacked {
    let mut layout = Layout::new();
    layout.image(None, layers, Packing::Plain);
    let cache = tempfile::tempdir().unwrap();
    let image = unpack(layout.path(), &cache).unwrap();
    Unpacked {
        _cache: cache,
        image,
    }
}

/// Why an image of one layer is not unpacked.
fn refused(layer: Layer) -> String {
    let mut layout = Layout::new();
    layout.image(None, vec![layer], Packing::Plain);
    let cache = tempfile::tempdir().unwrap();
    let error = unpack(layout.path(), &cache).unwrap_err();
    let left = fs::read_dir(cache.path().join("images")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "lock"), "{left:?}");
    error.to_string()
}

#[test]
fn every_packing_gives_the_same_files() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let mut layout = Layout::new();
        let text = "line\n".repeat(50_000);
        layout.image(None, vec![Layer::new().file("a/b", &text)], packing);
        for path in [layout.path().to_owned(), layout.archive()] {
            let cache = tempfile::tempdir().unwrap();
            let image = unpack(&path, &cache).unwrap();
            let found = fs::read_to_string(image.rootfs().join("a/b")).unwrap();
            assert!(found == text, "{packing:?} of {}", path.display());
        }
    }
}

#[test]
fn owner_mode_time_and_kind_are_the_images() {
    let image = image(vec![
        Layer::new()
            .directory("./")
            .directory("d")
            .file("d/f", "x")
            .hard_link("d/same", "d/f")
            .link("l", "/d/f")
            .fifo("pipe")
            .device("node"),
    ]);
    for (name, mode) in [
        ("", 0o40_750),
        ("d", 0o40_750),
        ("d/f", 0o100_640),
        ("pipe", 0o10_622),
    ] {
        let about = fs::symlink_metadata(image.path(name)).unwrap();
        assert_eq!((about.uid(), about.gid()), (1000, 50), "{name}");
        assert_eq!(about.mode(), mode, "{name}: {:o}", about.mode());
    }
    for name in ["d", "d/f", "l", "pipe"] {
        assert_eq!(
            fs::symlink_metadata(image.path(name)).unwrap().mtime(),
            1_000_000,
            "{name}"
        );
    }
    let inode = |name| fs::metadata(image.path(name)).unwrap().ino();
    assert_eq!(inode("d/f"), inode("d/same"));
    assert_eq!(fs::read_link(image.path("l")).unwrap(), Path::new("/d/f"));
    assert!(
        fs::symlink_metadata(image.path("pipe"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(fs::symlink_metadata(image.path("node")).is_err());
    assert_eq!(image.image.devices, [Path::new("/node")]);
}

#[test]
fn upper_layers_replace_and_hide() {
    let image = image(vec![
        Layer::new()
            .file("kept", "1")
            .file("changed", "1")
            .file("gone", "1")
            .file("was-file/x", "1")
            .file("was-dir", "1")
            .file("opaque/old", "1")
            .file("opaque/sub/old", "1"),
        Layer::new()
            .file("changed", "2")
            .file(".wh.gone", "")
            .file(".wh.never-there", "")
            .file(".wh..wh.plnk", "")
            .file("was-file", "2")
            .directory("was-dir")
            .file("opaque/sub/new", "2")
            .file("opaque/.wh..wh..opq", "")
            .file("opaque/late", "2"),
    ]);
    assert_eq!(
        image.names(""),
        ["changed", "kept", "opaque", "was-dir", "was-file"]
    );
    assert_eq!(image.text("changed"), "2");
    assert_eq!(image.text("was-file"), "2");
    assert_eq!(image.names("opaque"), ["late", "sub"]);
    assert_eq!(image.names("opaque/sub"), ["new"]);
}

/// `/lib` is a link to `usr/lib` in most images, often an absolute one.
#[test]
fn links_lead_within_the_image() {
    let outside = tempfile::tempdir().unwrap();
    let outside_path = outside.path().to_str().unwrap();
    let image = image(vec![
        Layer::new()
            .directory("usr/lib")
            .link("lib", "/usr/lib")
            .link("out", outside_path)
            .link("up", "../../../../../../.."),
        Layer::new()
            .file("lib/x", "in usr")
            .file("up/y", "at the top")
            .file("lib/.wh.z", ""),
    ]);
    assert_eq!(image.text("usr/lib/x"), "in usr");
    assert_eq!(image.text("y"), "at the top");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn unpacking_reaches_no_file_of_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "host").unwrap();
    let secret = secret.to_str().unwrap();
    for layer in [
        Layer::new().file("../../../../../../../../tmp/escaped-from-image", "x"),
        Layer::new().hard_link("copy", secret),
        Layer::new()
            .link("d", outside.path().to_str().unwrap())
            .file("d/planted", "x"),
        Layer::new()
            .link("d", outside.path().to_str().unwrap())
            .file("d/.wh.secret", ""),
        Layer::new().file(".wh...", ""),
    ] {
        let mut layout = Layout::new();
        layout.image(None, vec![layer], Packing::Plain);
        let cache = tempfile::tempdir().unwrap();
        // The entry is refused or stays beneath the image's root; the host's files do not change.
        let _ = unpack(layout.path(), &cache);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        assert_eq!(fs::metadata(secret).unwrap().nlink(), 1);
        assert!(!Path::new("/tmp/escaped-from-image").exists());
    }
}

#[test]
fn endless_name_is_refused_before_it_fills_the_memory() {
    let mut layout = Layout::new();
    let layer = Layer::new().long_name(2 << 20).file("x", "");
    layout.image(None, vec![layer], Packing::Gzip);
    let cache = tempfile::tempdir().unwrap();
    let error = unpack(layout.path(), &cache).unwrap_err().to_string();
    assert!(error.contains("headers of an entry"), "{error}");
}

#[test]
fn directories_that_no_entry_describes_can_be_entered_whatever_the_umask() {
    let image = thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        image(vec![Layer::new().file("app/lib/main.py", "")])
    });
    let image = image.join().unwrap();
    for name in ["", "app", "app/lib"] {
        let mode = fs::metadata(image.path(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}: {mode:o}");
    }
}

#[test]
fn entries_beneath_a_link_to_a_missing_directory_are_unpacked_there() {
    let image = image(vec![
        Layer::new().link("lib", "usr/lib").file("lib/x", "in usr"),
    ]);
    assert_eq!(image.text("usr/lib/x"), "in usr");
}

/// Guards against a stack that overflows: each link leads to a missing directory, which lies in many more.
#[test]
fn chain_of_links_to_missing_directories_is_an_error() {
    let deep = "a/".repeat(2040);
    let mut layer = Layer::new();
    for link in 0..38 {
        layer = layer.long_link(&format!("l{link}"), &format!("l{}/{deep}a", link + 1));
    }
    let error = refused(layer.file("l0/a/f", ""));
    assert!(
        error.contains("it lies in more than 512 directories"),
        "{error}"
    );
}

/// An image that can be unpacked can be removed.
#[test]
fn depth_of_directories_has_a_limit() {
    let deep = |steps: usize| {
        let mut layer = Layer::new();
        // In steps, because the name of an entry has a limit too, by links to what is there already.
        let mut above = String::new();
        for step in 0..steps {
            let names = ["a"; 32].join("/");
            layer = layer.file(&format!("{above}{names}/f"), "");
            let link = format!("l{step}");
            layer = layer.link(&link, &format!("{above}{names}"));
            above = format!("{link}/");
        }
        (layer, format!("{above}last"))
    };
    let (layer, last) = deep(16);
    assert!(image(vec![layer.file(&last, "")]).path("l15").is_symlink());
    for beneath in ["", "/f"] {
        let (layer, last) = deep(16);
        let last = format!("{last}{beneath}");
        let error = refused(if beneath.is_empty() {
            layer.directory(&last)
        } else {
            layer.file(&last, "")
        });
        let reason = "it lies in more than 512 directories";
        assert!(error.contains(reason), "{error}");
    }
}

/// Guards against a comparison of each file with each entry of the layer, for each whiteout: 1e11 here.
#[test]
fn opaque_whiteouts_cost_what_the_layers_hold() {
    const FILES: usize = 5000;
    let (mut lower, mut upper) = (Layer::new(), Layer::new());
    for number in 0..FILES {
        lower = lower.fifo(&format!("d/{number}"));
        upper = upper.fifo(&format!("d/own{number}"));
    }
    for _ in 0..FILES {
        upper = upper.file("d/.wh..wh..opq", "");
    }
    let (send, unpacked) = mpsc::channel();
    thread::spawn(move || send.send(image(vec![lower, upper]).names("d").len()));
    let names = unpacked.recv_timeout(Duration::from_secs(120));
    assert_eq!(
        names,
        Ok(FILES),
        "it takes a second on a machine of its own"
    );
}

#[test]
fn file_after_an_opaque_whiteout_is_hidden_by_none() {
    let lower = || Layer::new().file("a/b/lower", "").file("c/lower", "");
    let upper = Layer::new()
        .file("a/b/.wh..wh..opq", "")
        .file("a/b/own", "")
        .file("a/.wh..wh..opq", "")
        .file("a/b/.wh..wh..opq", "")
        .file(".wh..wh..opq", "")
        .file("c/own", "");
    let image = image(vec![lower(), lower(), upper]);
    assert_eq!(image.names(""), ["a", "c"]);
    assert_eq!(image.names("a/b"), ["own"]);
    assert_eq!(image.names("c"), ["own"]);
}

#[test]
fn hard_link_to_a_device_is_left_out() {
    let image = image(vec![Layer::new().device("node").hard_link("same", "node")]);
    assert_eq!(
        image.image.devices,
        [Path::new("/node"), Path::new("/same")]
    );
    assert!(image.names("").is_empty());
}

#[test]
fn a_failed_entry_is_named_with_its_cause_and_without_control_characters() {
    let mut layout = Layout::new();
    let layer = Layer::new().hard_link("a\x1b]0;x", "missing");
    layout.image(None, vec![layer], Packing::Plain);
    let cache = tempfile::tempdir().unwrap();
    let error = unpack(layout.path(), &cache).unwrap_err().to_string();
    assert!(error.contains("No such file"), "{error}");
    assert!(error.contains("entry \"a\\u{1b}]0;x\""), "{error}");
}

#[test]
fn only_harmless_extended_attributes_are_set() {
    let image = image(vec![
        Layer::new()
            .attributes(&[
                ("SCHILY.xattr.user.note", "kept"),
                ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ])
            .file("f", "x"),
    ]);
    let path = image.path("f");
    let get = |name: &str| {
        let mut value = vec![0; 64];
        let count = rustix::fs::lgetxattr(&path, name, value.as_mut_slice());
        count.map(|count| value[..count].to_vec())
    };
    assert!(get("trusted.overlay.opaque").is_err());
    match get("user.note") {
        Ok(value) => assert_eq!(value, b"kept"),
        Err(error) => panic!("{error}"),
    }
}
