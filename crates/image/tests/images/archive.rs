//! Which image is read from an archive, and what is refused.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Layer, Layout, Packing, unpack};
use wasm_interp_image::{Archive, Images};

fn layer(text: &str) -> Vec<Layer> {
    vec![Layer::new().file("f", text)]
}

#[test]
fn an_image_is_found_by_name_or_because_it_is_the_only_one() {
    let mut layout = Layout::new();
    layout.image(Some("app:1"), layer("1"), Packing::Plain);
    let only = Archive::open(layout.path()).unwrap().image(None).unwrap();
    layout.image(Some("app:2"), layer("2"), Packing::Plain);
    let archive = Archive::open(&layout.archive()).unwrap();
    assert_eq!(archive.image(Some("app:1")).unwrap().digest, only.digest);
    assert_ne!(archive.image(Some("app:2")).unwrap().digest, only.digest);
    let error = archive.image(None).unwrap_err().to_string();
    assert!(
        error.contains("app:1, app:2") && error.contains("--image NAME"),
        "{error}"
    );
    let error = archive.image(Some("app:3")).unwrap_err().to_string();
    assert!(
        error.contains("app:3") && error.contains("app:1, app:2"),
        "{error}"
    );
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let mut layout = Layout::new();
    layout.image_for(Some("app:1"), layer("1"), Packing::Plain, "s390x");
    let error = Archive::open(layout.path())
        .unwrap()
        .image(None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("an image for linux/"), "{error}");
}

#[test]
fn file_that_is_no_archive_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Archive::open(&path).unwrap_err().to_string()
    };
    assert!(refused(b"").contains("no index.json"));
    assert!(refused(&[0x1f, 0x8b, 8, 0]).contains("decompress it first"));
    let directory = folder.path().display();
    let instead = format!("as in wasm-interp run {directory} -- /file");
    for wasm in [b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
        let error = refused(wasm);
        assert!(error.contains("it is WebAssembly itself"), "{error}");
        assert!(error.ends_with(&instead), "{error}");
    }
    for no_tar in [&[7_u8; 5000][..], &b"print('hello')\n"[..]] {
        let error = refused(no_tar);
        assert!(
            error.contains("cannot read the table of contents"),
            "{error}"
        );
        assert!(error.contains("IMAGE.tar -- python main.py"), "{error}");
    }
    let mut old = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_cksum();
    old.append_data(&mut header, "manifest.json", &b"[]"[..])
        .unwrap();
    assert!(refused(&old.into_inner().unwrap()).contains("Docker 25"));
}

#[test]
fn blobs_that_are_not_what_their_digest_says_are_refused() {
    for packing in [Packing::Plain, Packing::Gzip] {
        let mut layout = Layout::new();
        let digest = layout.image(None, layer("1"), packing);
        let path = layout.blob(&digest);
        let honest = fs::read(&path).unwrap();
        let mut longer = honest.clone();
        longer.extend([0; 512]);
        for bytes in [longer, honest[..honest.len() - 20].to_vec()] {
            fs::write(&path, bytes).unwrap();
            let cache = tempfile::tempdir().unwrap();
            let error = unpack(layout.path(), &cache).unwrap_err().to_string();
            assert!(error.contains(&digest), "{error}");
            let left: Vec<_> = fs::read_dir(cache.path().join("images"))
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(left, ["lock"], "a failed unpacking leaves nothing");
        }
    }
}

#[test]
fn an_archive_that_is_cut_off_is_refused() {
    let mut layout = Layout::new();
    layout.image(
        None,
        vec![Layer::new().file("f", &"x".repeat(100_000))],
        Packing::Plain,
    );
    let path = layout.archive();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let images = Images::beneath(cache.path().join("images"));
    let unpacked = || -> Result<(), Box<dyn std::error::Error>> {
        let archive = Archive::open(&path)?;
        images.get(&archive, &archive.image(None)?, || {})?;
        Ok(())
    };
    let error = unpacked().unwrap_err().to_string();
    assert!(error.contains("archive.tar"), "{error}");
}

#[test]
fn an_image_is_unpacked_once_and_kept_while_it_is_used() {
    let mut layout = Layout::new();
    layout.image(None, layer("1"), Packing::Gzip);
    let archive = Archive::open(layout.path()).unwrap();
    let image = archive.image(None).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let images = Images::beneath(cache.path().join("images"));
    let mut unpacked = 0;
    let first = images.get(&archive, &image, || unpacked += 1).unwrap();
    // The next unpacking removes the unfinished directory of a killed process, and never takes it for an image.
    let stale = cache
        .path()
        .join("images")
        .join(format!("{}.new", "0".repeat(64)));
    fs::create_dir_all(stale.join("rootfs")).unwrap();
    let second = images.get(&archive, &image, || unpacked += 1).unwrap();
    assert_eq!(unpacked, 1);
    assert_eq!(first.rootfs(), second.rootfs());

    layout.image(Some("other"), layer("2"), Packing::Gzip);
    let archive = Archive::open(layout.path()).unwrap();
    images
        .get(&archive, &archive.image(Some("other")).unwrap(), || {})
        .unwrap();
    assert!(!stale.exists());

    drop(second);
    assert_eq!(images.prune(0).unwrap().spared, 1);
    assert!(first.rootfs().join("f").exists(), "an image in use stays");
    assert!(images.lock_unused().unwrap().is_none());
    drop(first);
    let locked = images.lock_unused().unwrap();
    assert!(locked.is_some(), "no container uses an image any more");
    drop(locked);
    assert_eq!(images.prune(0).unwrap().removed, 1);
    let left = fs::read_dir(cache.path().join("images")).unwrap().count();
    assert_eq!(left, 1, "only the lock file is left");
}

#[test]
fn the_lock_is_never_opened_through_a_link() {
    let mut layout = Layout::new();
    layout.image(None, layer("1"), Packing::Plain);
    let cache = tempfile::tempdir().unwrap();
    let victim = cache.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    fs::create_dir(cache.path().join("images")).unwrap();
    std::os::unix::fs::symlink(&victim, cache.path().join("images/lock")).unwrap();
    unpack(layout.path(), &cache).unwrap_err();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
}

#[test]
fn concurrent_requests_unpack_an_image_once() {
    let mut layout = Layout::new();
    layout.image(
        None,
        vec![Layer::new().file("f", &"x".repeat(1 << 20))],
        Packing::Gzip,
    );
    let cache = tempfile::tempdir().unwrap();
    let unpacked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let archive = Archive::open(layout.path()).unwrap();
                let image = archive.image(None).unwrap();
                let images = Images::beneath(cache.path().join("images"));
                let image = images.get(&archive, &image, || {
                    unpacked.fetch_add(1, Ordering::Relaxed);
                });
                assert!(image.unwrap().rootfs().join("f").exists());
            });
        }
    });
    assert_eq!(unpacked.into_inner(), 1);
}
