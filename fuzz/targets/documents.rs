//! Documents of images, which come from a registry: index, manifest, configuration, and names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::image::{Arch, ImageConfiguration, ImageIndex, ImageManifest, Os};
use wasm_interp_fuzz::planted;
use wasm_interp_image::{DocumentKind, args, chain_id, cwd, fits, fitting, full_name};

fn index(index: &ImageIndex) {
    for architecture in [Arch::Amd64, Arch::ARM64] {
        let found = fitting(index, &architecture);
        assert!(found.len() <= index.manifests().len());
        let mut unnamed = false;
        for descriptor in &found {
            assert!(index.manifests().contains(descriptor));
            assert_ne!(DocumentKind::of(descriptor), DocumentKind::Other);
            match descriptor.platform() {
                Some(platform) => {
                    assert!(
                        !unnamed,
                        "a descriptor that says what it is for comes first"
                    );
                    assert_eq!(
                        (platform.os(), platform.architecture()),
                        (&Os::Linux, &architecture)
                    );
                }
                None => unnamed = true,
            }
        }
        planted(found.len() == 1 && found[0].platform().is_none());
    }
}

fn configuration(image: &ImageConfiguration) {
    let is_linux = *image.os() == Os::Linux;
    assert!(is_linux || !fits(image, image.architecture()));
    let layers = image.rootfs().diff_ids();
    match chain_id(layers) {
        None => assert!(layers.is_empty()),
        Some(id) if layers.len() == 1 => assert_eq!(id, layers[0]),
        Some(id) => {
            assert_eq!(id.len(), "sha256:".len() + 64);
            assert_ne!(chain_id(&layers[1..]), Some(id));
        }
    }
    if let Some(config) = image.config() {
        assert!(!cwd(config).is_empty());
        let words = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        assert_eq!(
            args(config).len(),
            words(config.entrypoint()) + words(config.cmd())
        );
    }
}

fuzz_target!(|text: &[u8]| {
    if let Ok(document) = serde_json::from_slice::<ImageIndex>(text) {
        index(&document);
    }
    if let Ok(document) = serde_json::from_slice::<ImageConfiguration>(text) {
        configuration(&document);
    }
    if let Ok(document) = serde_json::from_slice::<ImageManifest>(text) {
        assert!(serde_json::to_vec(&document).is_ok());
    }
    if let Ok(name) = std::str::from_utf8(text)
        && let Ok(full) = full_name(name)
    {
        assert_eq!(full_name(&full).as_ref(), Ok(&full), "a full name is full");
        assert!(full.contains('/') && full.contains([':', '@']), "{full}");
    }
});
