//! The documents of an image: index, manifest and configuration. This module parses and interprets each
//! document by itself. Their content comes from a registry and is not trusted.

use oci_spec::distribution::{ParseError, Reference};
use oci_spec::image::{
    Arch, Config, Descriptor, ImageConfiguration, ImageIndex, MediaType, Os, ToDockerV2S2,
};

use sha2::{Digest as _, Sha256};

/// The largest document that is read, in bytes. Registries have to accept manifests up to this size.
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The kind of document that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A list of manifests, usually one per platform.
    Index,
    /// An image for one platform.
    Manifest,
    /// Anything else: a layer, a configuration, an artifact.
    Other,
}

impl DocumentKind {
    /// The kind of the descriptor's media type, which is OCI's or Docker's.
    #[must_use]
    pub fn of(descriptor: &Descriptor) -> Self {
        let found = descriptor.media_type();
        let is = |wanted: MediaType| {
            *found == wanted
                || wanted
                    .to_docker_v2s2()
                    .is_ok_and(|docker| found.as_ref() == docker)
        };
        if is(MediaType::ImageIndex) {
            Self::Index
        } else if is(MediaType::ImageManifest) {
            Self::Manifest
        } else {
            Self::Other
        }
    }
}

/// The descriptors of `index` that may be for Linux on this architecture, the best first: descriptors
/// that name it (without a variant before others), then descriptors without a platform. The caller has
/// to read the configuration of the latter.
#[must_use]
pub fn fitting(index: &ImageIndex, architecture: &Arch) -> Vec<Descriptor> {
    let rank = |descriptor: &Descriptor| match descriptor.platform() {
        None => Some(2),
        Some(platform)
            if *platform.os() != Os::Linux || platform.architecture() != architecture =>
        {
            None
        }
        Some(platform) => match platform.variant().as_deref() {
            None | Some("" | "v8") => Some(0),
            Some(_) => Some(1),
        },
    };
    let mut ranked: Vec<_> = index
        .manifests()
        .iter()
        .filter(|descriptor| DocumentKind::of(descriptor) != DocumentKind::Other)
        .filter_map(|descriptor| Some((rank(descriptor)?, descriptor)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked
        .into_iter()
        .map(|(_, descriptor)| descriptor.clone())
        .collect()
}

/// Whether the image is for Linux on this architecture.
#[must_use]
pub fn fits(image: &ImageConfiguration, architecture: &Arch) -> bool {
    *image.os() == Os::Linux && image.architecture() == architecture
}

/// The `ChainID` of an image's layers. Snapshotters name its files by it (image-spec, config.md).
#[must_use]
pub fn chain_id(layers: &[String]) -> Option<String> {
    let (first, rest) = layers.split_first()?;
    Some(rest.iter().fold(first.clone(), |chain, layer| {
        let digest = Sha256::digest(format!("{chain} {layer}").as_bytes());
        format!("sha256:{}", hex::encode(digest))
    }))
}

/// The command of a container for which the user names none: ENTRYPOINT and CMD.
#[must_use]
pub fn args(config: &Config) -> Vec<String> {
    let words = [config.entrypoint(), config.cmd()];
    words.into_iter().flatten().flatten().cloned().collect()
}

/// The working directory of a container for which the user names none.
#[must_use]
pub fn cwd(config: &Config) -> &str {
    match config.working_dir().as_deref() {
        None | Some("") => "/",
        Some(cwd) => cwd,
    }
}

/// The name of an image in containerd's CRI, for a name in a pod's spec: `python` becomes
/// `docker.io/library/python:latest`. A name with a digest loses its tag.
///
/// # Errors
/// If it is not the name of an image.
pub fn full_name(name: &str) -> Result<String, ParseError> {
    let reference: Reference = name.parse()?;
    let full = match reference.digest() {
        Some(digest) => reference.clone_with_digest(digest.to_owned()).whole(),
        None => reference.whole(),
    };
    // With the registry in front, the result may not be a valid name: `Python/a`.
    full.parse::<Reference>()?;
    Ok(full)
}

#[cfg(test)]
mod tests {
    use oci_spec::image::Digest;

    use super::*;

    #[test]
    fn names_are_completed_as_the_cri_completes_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (short, full) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12", "docker.io/library/python:3.12"),
            ("me/python", "docker.io/me/python:latest"),
            ("index.docker.io/me/python", "docker.io/me/python:latest"),
            ("localhost/python:3", "localhost/python:3"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            (
                "registry.example.com/a-b/c_d:V1",
                "registry.example.com/a-b/c_d:V1",
            ),
        ] {
            assert_eq!(full_name(short).as_deref(), Ok(full), "{short}");
        }
        let pinned = full_name(&format!("python:3.12@{digest}"));
        assert_eq!(pinned, Ok(format!("docker.io/library/python@{digest}")));
        let long = "a".repeat(600);
        for wrong in [
            "",
            "a b",
            "Python",
            "Python/a",
            "a:",
            "a//b",
            "/a",
            "a@sha256:0",
            "a\n",
            long.as_str(),
        ] {
            assert!(full_name(wrong).is_err(), "{wrong}");
        }
    }

    /// An index of manifests with these digests' first digits.
    fn index() -> ImageIndex {
        let digest = |first: &str| format!("sha256:{first:0<64}");
        let manifest = |first: &str, kind: &str, platform: &str| {
            format!(
                r#"{{"mediaType":"{kind}","digest":"{}","size":7{platform}}}"#,
                digest(first)
            )
        };
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let platform = |os: &str, architecture: &str, more: &str| {
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{more}}}"#)
        };
        let manifests = [
            manifest("1", oci, ""),
            manifest("2", oci, &platform("unknown", "unknown", "")),
            manifest("3", oci, &platform("windows", "amd64", "")),
            manifest("4", oci, &platform("linux", "amd64", r#","variant":"v3""#)),
            manifest("5", docker, &platform("linux", "amd64", "")),
            manifest("6", oci, &platform("linux", "arm64", r#","variant":"v8""#)),
            manifest("7", oci, &platform("wasip1", "wasm", "")),
            manifest("8", "text/plain", ""),
        ];
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            manifests.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_index_gives_what_is_for_this_machine() {
        let digests = |architecture: &Arch| -> Vec<String> {
            let fitting = fitting(&index(), architecture);
            fitting
                .iter()
                .map(|one| one.digest().digest().trim_end_matches('0').to_owned())
                .collect()
        };
        assert_eq!(digests(&Arch::Amd64), ["5", "4", "1"]);
        assert_eq!(digests(&Arch::ARM64), ["6", "1"]);
    }

    #[test]
    fn oci_and_docker_media_types_are_recognised() {
        for (name, kind) in [
            (
                "application/vnd.oci.image.index.v1+json",
                DocumentKind::Index,
            ),
            (
                "application/vnd.docker.distribution.manifest.list.v2+json",
                DocumentKind::Index,
            ),
            (
                "application/vnd.oci.image.manifest.v1+json",
                DocumentKind::Manifest,
            ),
            (
                "application/vnd.docker.distribution.manifest.v2+json",
                DocumentKind::Manifest,
            ),
            (
                "application/vnd.oci.image.config.v1+json",
                DocumentKind::Other,
            ),
            ("", DocumentKind::Other),
        ] {
            let digest = Digest::try_from(format!("sha256:{}", "0".repeat(64))).unwrap();
            let descriptor = Descriptor::new(name.into(), 1, digest);
            assert_eq!(DocumentKind::of(&descriptor), kind, "{name}");
        }
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let chain_id = |layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|&id| id.to_owned()).collect();
            chain_id(&layers)
        };
        assert_eq!(chain_id(&[]), None);
        // "ChainID(L0) = DiffID(L0)"
        assert_eq!(chain_id(&["sha256:a"]).unwrap(), "sha256:a");
        // "ChainID(L0|...|Ln) = Digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))", the two and three layers
        // of identity/chainid_test.go.
        let two = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8";
        assert_eq!(chain_id(&["sha256:a", "sha256:b"]).unwrap(), two);
        let three = "sha256:dee159b33409cefa3f6eda71539f006014283e9d9130c18a1dea7bd8a33c9b1b";
        let layers = ["sha256:a", "sha256:b", "sha256:c"];
        assert_eq!(chain_id(&layers).unwrap(), three);
    }

    #[test]
    fn a_configuration_may_leave_out_nearly_all() {
        let image: ImageConfiguration = serde_json::from_str(
            r#"{"os":"linux","architecture":"arm64",
                "config":{"Cmd":null,"Env":null,"Labels":null,"Volumes":null,"ExposedPorts":null,"OnBuild":null},
                "rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[{"empty_layer":true}]}"#,
        )
        .unwrap();
        let config = image.config().clone().unwrap();
        assert_eq!((args(&config), cwd(&config)), (Vec::new(), "/"));
        assert!(fits(&image, &Arch::ARM64) && !fits(&image, &Arch::Amd64));
        let config: Config =
            serde_json::from_str(r#"{"Entrypoint":["a"],"Cmd":["b","c"],"WorkingDir":"/d"}"#)
                .unwrap();
        assert_eq!(args(&config), ["a", "b", "c"]);
        assert_eq!(cwd(&config), "/d");
    }
}
