//! The few documents of the OCI image specification that lead from an image's name to its files, read and
//! judged without a look at anything else. Called by `live::image`. What they hold comes from a registry.

use serde::Deserialize;

use crate::files;

/// No document of an image may be larger; registries are asked to take manifests of up to this size.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// `application/vnd.oci.descriptor.v1+json`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

/// What a descriptor leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Manifest,
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: String, digest: String, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            platform: None,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.media_type.as_str() {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Kind::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Kind::Manifest,
            _ => Kind::Other,
        }
    }
}

/// `application/vnd.oci.image.index.v1+json`
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    manifests: Vec<Descriptor>,
}

impl Index {
    /// What may be for `linux` and this architecture, the best first: a descriptor that says so, the
    /// one without a variant before others, and then those that say nothing (their configuration does).
    pub(crate) fn fitting(self, architecture: &str) -> Vec<Descriptor> {
        let rank = |descriptor: &Descriptor| match &descriptor.platform {
            None => Some(2),
            Some(platform) if platform.os != "linux" || platform.architecture != architecture => {
                None
            }
            Some(platform) => match platform.variant.as_deref() {
                None | Some("" | "v8") => Some(0),
                Some(_) => Some(1),
            },
        };
        let mut ranked: Vec<_> = self
            .manifests
            .into_iter()
            .filter(|descriptor| descriptor.kind() != Kind::Other)
            .filter_map(|descriptor| Some((rank(&descriptor)?, descriptor)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked
            .into_iter()
            .map(|(_, descriptor)| descriptor)
            .collect()
    }
}

/// `application/vnd.oci.image.manifest.v1+json`
#[derive(Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
}

/// `application/vnd.oci.image.config.v1+json`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Image {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    pub(crate) config: Option<Execution>,
    rootfs: RootFs,
}

/// What of it is about the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Execution {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    pub(crate) env: Option<Vec<String>>,
    working_dir: Option<String>,
}

impl Execution {
    /// The command of a container for which nobody gives another.
    pub(crate) fn args(&self) -> Vec<String> {
        let words = [&self.entrypoint, &self.cmd];
        words.into_iter().flatten().flatten().cloned().collect()
    }

    pub(crate) fn cwd(&self) -> &str {
        match self.working_dir.as_deref() {
            None | Some("") => "/",
            Some(cwd) => cwd,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

impl Image {
    /// Whether containers of this machine may be made of it.
    pub(crate) fn fits(&self, architecture: &str) -> bool {
        self.os == "linux" && self.architecture == architecture
    }

    /// What snapshotters know its files by: the `ChainID` of its layers.
    pub(crate) fn chain_id(&self) -> Option<String> {
        let (first, rest) = self.rootfs.diff_ids.split_first()?;
        Some(rest.iter().fold(first.clone(), |chain, layer| {
            let hash = files::sha256(format!("{chain} {layer}").as_bytes());
            format!("sha256:{hash}")
        }))
    }
}

/// This machine's architecture, as images have it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image's name as the CRI has it in containerd, made of what a pod's spec says: `python` is
/// `docker.io/library/python:latest`. `None` if it is no name of an image.
pub(crate) fn full_name(name: &str) -> Option<String> {
    const LONGEST: usize = 512;
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+[]".contains(&byte);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_character) {
        return None;
    }
    let (name, digest) = match name.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (name, None),
    };
    // A colon before the last slash is a port's.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (host, path) = match path.split_once('/') {
        Some((first, rest)) if is_host(first) || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (first, rest)
        }
        _ => ("docker.io", path),
    };
    let host = if host == "index.docker.io" {
        "docker.io"
    } else {
        host
    };
    let library = if host == "docker.io" && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    if host.is_empty() || !path.split('/').all(is_part) {
        return None;
    }
    // As the CRI has it: with a digest the tag says nothing.
    let version = match (digest, tag) {
        (Some(digest), _)
            if digest
                .split_once(':')
                .is_some_and(|(_, hex)| hex.len() >= 32) =>
        {
            format!("@{digest}")
        }
        (None, None) => ":latest".to_owned(),
        (None, Some(tag)) if !tag.is_empty() => format!(":{tag}"),
        _ => return None,
    };
    Some(format!("{host}/{library}{path}{version}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
        ] {
            assert_eq!(full_name(short).as_deref(), Some(full), "{short}");
        }
        let pinned = full_name(&format!("python:3.12@{digest}"));
        assert_eq!(pinned, Some(format!("docker.io/library/python@{digest}")));
        let long = "a".repeat(600);
        for wrong in [
            "",
            "a b",
            "Python",
            "a:",
            "a//b",
            "/a",
            "a@sha256:0",
            "a\n",
            long.as_str(),
        ] {
            assert_eq!(full_name(wrong), None, "{wrong}");
        }
    }

    fn index() -> Index {
        let manifest = |digest: &str, platform: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7{platform}}}"#
            )
        };
        let platform = |os: &str, architecture: &str, more: &str| {
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"{more}}}"#)
        };
        let manifests = [
            manifest("unsaid", ""),
            manifest("attestation", &platform("unknown", "unknown", "")),
            manifest("windows", &platform("windows", "amd64", "")),
            manifest("v3", &platform("linux", "amd64", r#","variant":"v3""#)),
            manifest("amd64", &platform("linux", "amd64", "")),
            manifest("arm64", &platform("linux", "arm64", r#","variant":"v8""#)),
            manifest("wasm", &platform("wasip1", "wasm", "")),
            r#"{"mediaType":"text/plain","digest":"text","size":1}"#.to_owned(),
        ];
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            manifests.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_index_gives_what_is_for_this_machine() {
        let digests = |architecture| -> Vec<String> {
            let fitting = index().fitting(architecture);
            fitting.into_iter().map(|one| one.digest).collect()
        };
        assert_eq!(digests("amd64"), ["amd64", "v3", "unsaid"]);
        assert_eq!(digests("arm64"), ["arm64", "unsaid"]);
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let image = |ids: &[&str]| Image {
            rootfs: RootFs {
                diff_ids: ids.iter().map(|&id| id.to_owned()).collect(),
            },
            ..Image::default()
        };
        assert_eq!(image(&[]).chain_id(), None);
        // "ChainID(L0) = DiffID(L0)"
        assert_eq!(image(&["sha256:a"]).chain_id().unwrap(), "sha256:a");
        // "ChainID(L0|...|Ln) = Digest(ChainID(L0|...|Ln-1) + " " + DiffID(Ln))", the two and three layers
        // of identity/chainid_test.go.
        let two = "sha256:970a948bffa8de94d6e22d747ba8c95030e6e546909f98f54e99a13005e173a8";
        assert_eq!(image(&["sha256:a", "sha256:b"]).chain_id().unwrap(), two);
        let three = "sha256:dee159b33409cefa3f6eda71539f006014283e9d9130c18a1dea7bd8a33c9b1b";
        let layers = ["sha256:a", "sha256:b", "sha256:c"];
        assert_eq!(image(&layers).chain_id().unwrap(), three);
    }

    #[test]
    fn a_configuration_may_leave_out_nearly_all() {
        let image: Image = serde_json::from_str(
            r#"{"os":"linux","architecture":"arm64","config":{"Cmd":null,"Env":null,"Labels":{}},
                "rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[]}"#,
        )
        .unwrap();
        let execution = image.config.clone().unwrap();
        assert_eq!((execution.args(), execution.cwd()), (Vec::new(), "/"));
        assert!(image.fits("arm64") && !image.fits("amd64"));
        let execution: Execution =
            serde_json::from_str(r#"{"Entrypoint":["a"],"Cmd":["b","c"],"WorkingDir":"/d"}"#)
                .unwrap();
        assert_eq!(execution.args(), ["a", "b", "c"]);
        assert_eq!(execution.cwd(), "/d");
    }
}
