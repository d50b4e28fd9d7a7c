//! The runtime's options: `containerd.runc.v1.Options`, which clients and containerd's configuration give to
//! every runtime that is used in place of runc's. Pure.
//!
//! Read by `service` for each create, and by `bootstrap` for the start of a shim. Values that mean nothing
//! ("", 0, false) are ignored, and so is `SystemdCgroup`: the form of `cgroupsPath` decides. Options that this
//! runtime does not have become warnings. None of them takes a protection away.
#![forbid(unsafe_code)]

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, Message as _};
use containerd_shim_protos::shim::oci::Options;
use wasm_interp_runner_client::SessionKeyring;

/// The type of the message, with or without a host before it.
const TYPE: &str = "containerd.runc.v1.Options";

/// The options cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot read the options of the request, a {TYPE}: {0}; look at what creates the container"
)]
pub(crate) struct OptionsError(#[source] protobuf::Error);

/// What a create does with its options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CreateOptions {
    /// The owner of the container's FIFOs, if it is not root.
    pub(crate) io_owner: Option<(u32, u32)>,
    pub(crate) keyring: SessionKeyring,
    /// Options that it does not follow, in words.
    pub(crate) warnings: Vec<String>,
}

impl CreateOptions {
    pub(crate) fn parse(any: Option<&Any>) -> Result<Self, OptionsError> {
        let Some(any) = any.filter(|any| !any.value.is_empty()) else {
            return Ok(Self::default());
        };
        let Some(options) = of(any)? else {
            let kind = &any.type_url;
            return Ok(Self {
                warnings: vec![format!("options of the type {kind:?} are not known")],
                ..Self::default()
            });
        };
        let owner = (options.io_uid, options.io_gid);
        Ok(Self {
            io_owner: Some(owner).filter(|&owner| owner != (0, 0)),
            keyring: if options.no_new_keyring {
                SessionKeyring::Callers
            } else {
                SessionKeyring::Own
            },
            warnings: unused(&options),
        })
    }
}

/// The cgroup that a new shim is to be in, by the options among these.
pub(crate) fn shim_cgroup<'a>(
    all: impl IntoIterator<Item = &'a Any>,
) -> Result<Option<String>, OptionsError> {
    for any in all {
        if let Some(options) = of(any)? {
            return Ok(Some(options.shim_cgroup).filter(|path| !path.is_empty()));
        }
    }
    Ok(None)
}

fn of(any: &Any) -> Result<Option<Options>, OptionsError> {
    if any.type_url.rsplit('/').next() != Some(TYPE) {
        return Ok(None);
    }
    Options::parse_from_bytes(&any.value)
        .map(Some)
        .map_err(OptionsError)
}

fn unused(options: &Options) -> Vec<String> {
    let set = |name: &str, value: &str, instead: &str| {
        (!value.is_empty()).then(|| format!("option {name} is {value:?}: {instead}"))
    };
    let own = "this runtime uses its own executables";
    let checkpoints = "this runtime makes no checkpoints";
    let pivot = options.no_pivot_root.then(|| {
        "option NoPivotRoot is true: the container's root is always changed by pivot_root(2)"
            .to_owned()
    });
    [
        pivot,
        set("BinaryName", &options.binary_name, own),
        set("Root", &options.root, "the state is kept in the bundle"),
        set("CriuImagePath", &options.criu_image_path, checkpoints),
        set("CriuWorkPath", &options.criu_work_path, checkpoints),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(options: &Options) -> Any {
        Any {
            type_url: TYPE.to_owned(),
            value: options.write_to_bytes().expect("encode"),
            ..Any::default()
        }
    }

    #[test]
    fn empty_and_default_options_and_the_cgroup_driver_mean_nothing() {
        let driver = Options {
            systemd_cgroup: true,
            ..Options::default()
        };
        for any in [
            None,
            Some(Any::default()),
            Some(any(&Options::default())),
            Some(any(&driver)),
        ] {
            let options = CreateOptions::parse(any.as_ref()).expect("parse");
            assert_eq!(options, CreateOptions::default());
        }
    }

    #[test]
    fn owner_of_the_streams_and_keyring_are_followed_and_the_rest_is_named() {
        let options = Options {
            io_uid: 1000,
            io_gid: 0,
            no_new_keyring: true,
            no_pivot_root: true,
            binary_name: "crun".into(),
            root: "/run/other".into(),
            ..Options::default()
        };
        let options = CreateOptions::parse(Some(&any(&options))).expect("parse");
        assert_eq!(options.io_owner, Some((1000, 0)));
        assert_eq!(options.keyring, SessionKeyring::Callers);
        let names = [
            "NoPivotRoot",
            "BinaryName is \"crun\"",
            "Root is \"/run/other\"",
        ];
        assert_eq!(options.warnings.len(), names.len());
        for (warning, name) in options.warnings.iter().zip(names) {
            assert!(warning.contains(name), "{warning}");
        }
    }

    #[test]
    fn unknown_options_are_a_warning_and_broken_ones_an_error() {
        let unknown = Any {
            type_url: "runtimeoptions.v1.Options".into(),
            value: vec![10, 1, 120],
            ..Any::default()
        };
        let options = CreateOptions::parse(Some(&unknown)).expect("parse");
        assert!(options.warnings[0].contains("runtimeoptions.v1.Options"));
        let broken = Any {
            value: vec![0xff],
            ..any(&Options::default())
        };
        CreateOptions::parse(Some(&broken)).expect_err("it cannot be read");
    }

    #[test]
    fn cgroup_of_the_shim_is_found_among_the_extensions() {
        let with = |shim_cgroup: &str| {
            let mut any = any(&Options {
                shim_cgroup: shim_cgroup.into(),
                ..Options::default()
            });
            any.type_url.insert_str(0, "types.containerd.io/");
            any
        };
        let found = |all: &[Any]| shim_cgroup(all).expect("read");
        assert_eq!(
            found(&[Any::default(), with("/shims")]),
            Some("/shims".into())
        );
        assert_eq!(found(&[with("")]), None);
        assert_eq!(found(&[]), None);
    }
}
