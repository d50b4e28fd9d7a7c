//! The kernel parameters of a spec (`linux.sysctl`).
//!
//! Called by the init process.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    io::{Error, ErrorKind},
    path::{Path, PathBuf},
};

/// A kernel parameter cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the kernel parameter {name} to {value:?}: {source}")]
pub(crate) struct ParameterError {
    name: String,
    value: String,
    source: Error,
}

/// Sets kernel parameters of the namespaces that this process is in. It uses the host's /proc: what is
/// mounted at the container's may be the image's work.
pub(crate) fn set(parameters: &HashMap<String, String>) -> Result<(), ParameterError> {
    parameters.iter().try_for_each(|(name, value)| {
        file(name)
            .and_then(|path| std::fs::write(path, value))
            .map_err(|source| ParameterError {
                name: name.clone(),
                value: value.clone(),
                source,
            })
    })
}

/// The file of a parameter. Its name has dots or slashes between its parts, and then the other of
/// them within, as sysctl(8) reads it.
fn file(name: &str) -> std::io::Result<PathBuf> {
    let path: String = match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        let why = "it names no file of /proc/sys; correct it";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    Ok(Path::new("/proc/sys").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kernel_parameters_are_read_as_by_sysctl() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "/proc/sys/net/ipv4/conf/eth0.1/forwarding",
            ),
        ] {
            assert_eq!(file(name).expect(name), Path::new(path));
        }
        for name in ["net/../kernel/panic", "/net/x", "net..x", ""] {
            assert!(file(name).is_err(), "{name}");
        }
    }
}
