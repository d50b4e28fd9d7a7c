//! OCI archives: any bytes as a tar file, and archives whose documents have the digests that they say.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use oci_spec::image::Arch;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wasm_interp_fuzz::{described, planted, scratch};
use wasm_interp_image::{Archive, fits};

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    Bytes(&'a [u8]),
    Made {
        documents: Vec<Document>,
        names: [Option<Name>; 2],
        wanted: Option<Name>,
        /// Where bytes of the finished archive are changed, and by what.
        damage: Option<(u16, u8)>,
        prefix: bool,
    },
}

#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
enum Name {
    A,
    B,
    Empty,
}

#[derive(Debug, arbitrary::Arbitrary)]
enum Document {
    Configuration {
        linux: bool,
        ours: bool,
    },
    /// Numbers are places among the documents before it.
    Manifest {
        configuration: u8,
        layers: [u8; 2],
    },
    Index {
        entries: [u8; 2],
        platform: bool,
    },
    /// Some other bytes.
    Other(u8),
}

struct Blob {
    digest: String,
    kind: &'static str,
    bytes: Vec<u8>,
}

fn blob(kind: &'static str, bytes: Vec<u8>) -> Blob {
    Blob {
        digest: hex::encode(Sha256::digest(&bytes)),
        kind,
        bytes,
    }
}

fn descriptor(blobs: &[Blob], place: u8) -> Value {
    match blobs.get(usize::from(place) % (blobs.len() + 1)) {
        Some(blob) => json!({
            "mediaType": format!("application/vnd.oci.image.{}", blob.kind),
            "digest": format!("sha256:{}", blob.digest),
            "size": blob.bytes.len(),
        }),
        // A blob that is not there.
        None => json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
        }),
    }
}

fn document(blobs: &[Blob], document: &Document) -> Blob {
    let architecture = |ours: bool| match (ours, Arch::default()) {
        (true, own) => own.to_string(),
        (false, Arch::Amd64) => "arm64".to_owned(),
        (false, _) => "amd64".to_owned(),
    };
    match document {
        Document::Configuration { linux, ours } => {
            let os = if *linux { "linux" } else { "windows" };
            let document = json!({
                "os": os, "architecture": architecture(*ours),
                "rootfs": { "type": "layers", "diff_ids": [] },
            });
            blob("config.v1+json", document.to_string().into_bytes())
        }
        Document::Manifest {
            configuration,
            layers,
        } => {
            let document = json!({
                "schemaVersion": 2, "config": descriptor(blobs, *configuration),
                "layers": layers.map(|place| descriptor(blobs, place)),
            });
            blob("manifest.v1+json", document.to_string().into_bytes())
        }
        Document::Index { entries, platform } => {
            let manifests = entries.map(|place| {
                let mut entry = descriptor(blobs, place);
                if *platform {
                    entry["platform"] =
                        json!({ "os": "linux", "architecture": architecture(true) });
                }
                entry
            });
            let document = json!({ "schemaVersion": 2, "manifests": manifests });
            blob("index.v1+json", document.to_string().into_bytes())
        }
        Document::Other(byte) => blob("layer.v1.tar", vec![*byte; 3]),
    }
}

fn tar(members: &[(String, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes)
            .expect("an entry");
    }
    tar.into_inner().expect("an archive")
}

fn name(name: Name) -> &'static str {
    match name {
        Name::A => "a",
        Name::B => "b",
        Name::Empty => "",
    }
}

fn made(documents: &[Document], names: [Option<Name>; 2], prefix: bool) -> Vec<u8> {
    let mut blobs = Vec::new();
    for next in documents.iter().take(12) {
        let blob = document(&blobs, next);
        blobs.push(blob);
    }
    let last = blobs.len().saturating_sub(1);
    let top: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(back, held)| {
            let mut entry = descriptor(
                &blobs,
                u8::try_from(last.saturating_sub(back)).expect("few"),
            );
            if let Some(held) = held {
                entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name(*held) });
            }
            entry
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": top }).to_string();
    let start = if prefix { "./" } else { "" };
    let mut members = vec![(format!("{start}index.json"), index.as_bytes())];
    members.extend(blobs.iter().map(|blob| {
        (
            format!("{start}blobs/sha256/{}", blob.digest),
            blob.bytes.as_slice(),
        )
    }));
    tar(&members)
}

fn check(bytes: &[u8], wanted: Option<&str>) -> bool {
    let path = scratch::directory().join("archive.tar");
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(bytes).expect("write");
    let archive = match Archive::open(&path) {
        Ok(archive) => archive,
        Err(error) => {
            described(&Err::<(), _>(error));
            return false;
        }
    };
    let found = archive.image(wanted);
    assert_eq!(
        described(&found),
        described(&archive.image(wanted)),
        "equal archives give equal images"
    );
    let Ok(image) = found else { return false };
    assert!(fits(&image.configuration, &Arch::default()));
    true
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Bytes(bytes) => {
        check(bytes, None);
    }
    Input::Made {
        documents,
        names,
        wanted,
        damage,
        prefix,
    } => {
        let mut bytes = made(&documents, names, prefix);
        if let Some((at, by)) = damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= by;
        }
        let found = check(&bytes, wanted.map(name));
        planted(found);
    }
});
