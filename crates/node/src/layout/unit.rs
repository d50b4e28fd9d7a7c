//! The command of a service: `ExecStart` of its unit files, found as systemd finds them. Supports what containerd's units
//! use: one command, without quotes.

use std::fs;
use std::path::Path;

use crate::files::{self, FileError};
use crate::host::HostRoot;

/// The folders of unit files, in the order in which systemd searches them.
pub(super) const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Whether the unit exists and is not masked.
pub(super) fn exists(host: &HostRoot, unit: &str) -> bool {
    let paths = FOLDERS.map(|folder| host.at(Path::new(folder).join(unit)));
    let first = paths.iter().find(|path| fs::symlink_metadata(path).is_ok());
    first.is_some_and(|path| fs::read_link(path).ok().as_deref() != Some(Path::new("/dev/null")))
}

/// The words of the unit's command; `None` if the unit does not exist.
pub(super) fn command(host: &HostRoot, unit: &str) -> Result<Option<Vec<String>>, FileError> {
    let mut found = None;
    for folder in FOLDERS {
        if let Some(bytes) = files::read(&host.at(Path::new(folder).join(unit)))? {
            found = last_command(&String::from_utf8_lossy(&bytes), found);
            break;
        }
    }
    // The drop-ins of all folders, ordered by name.
    let mut more = Vec::new();
    for folder in FOLDERS {
        let folder = host.at(Path::new(folder).join(format!("{unit}.d")));
        if let Ok(entries) = fs::read_dir(&folder) {
            more.extend(
                entries
                    .flatten()
                    .map(|entry| (entry.file_name(), entry.path())),
            );
        }
    }
    more.retain(|(name, _)| name.to_string_lossy().ends_with(".conf"));
    more.sort();
    for (_, path) in more {
        if let Some(bytes) = files::read(&path)? {
            found = last_command(&String::from_utf8_lossy(&bytes), found);
        }
    }
    Ok(found)
}

fn last_command(text: &str, before: Option<Vec<String>>) -> Option<Vec<String>> {
    text.replace("\\\n", " ")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ExecStart="))
        .fold(before, |_, command| {
            let command = command
                .trim()
                .trim_start_matches(['-', '@', ':', '+', '!', '|']);
            // An empty one resets the list.
            (!command.is_empty()).then(|| command.split_whitespace().map(str::to_owned).collect())
        })
}

/// The value of a flag: `--flag value` or `--flag=value`.
pub(super) fn flag(words: &[String], names: &[&str]) -> Option<String> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        for name in names {
            if word == name {
                return words.next().cloned();
            }
            if let Some(value) = word
                .strip_prefix(name)
                .and_then(|rest| rest.strip_prefix('='))
            {
                return Some(value.to_owned());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_count_and_an_empty_command_resets() {
        let root = tempfile::tempdir().unwrap();
        let host = HostRoot::new(root.path());
        let write = |path: &str, text: &str| {
            let path = host.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(command(&host, "c.service").unwrap(), None);
        write(
            "/lib/systemd/system/c.service",
            "[Service]\nExecStart=-/usr/bin/c\n",
        );
        assert_eq!(
            command(&host, "c.service").unwrap().unwrap(),
            ["/usr/bin/c"]
        );
        write(
            "/etc/systemd/system/c.service.d/10-x.conf",
            "[Service]\nExecStart=\nExecStart=/opt/c \\\n  --config=/x.toml -a /s\n",
        );
        let words = command(&host, "c.service").unwrap().unwrap();
        assert_eq!(words[0], "/opt/c");
        assert_eq!(
            flag(&words, &["--config", "-c"]).as_deref(),
            Some("/x.toml")
        );
        assert_eq!(flag(&words, &["--address", "-a"]).as_deref(), Some("/s"));
        assert_eq!(flag(&words, &["--state"]), None);
    }
}
