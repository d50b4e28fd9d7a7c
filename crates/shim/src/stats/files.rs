//! Reads the files of a cgroup's directory.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use crate::cgroup::flat_value;

/// A directory of the cgroup.
pub(super) struct Dir<'a>(pub(super) &'a Path);

impl Dir<'_> {
    pub(super) fn text(&self, file: &str) -> String {
        self.existing(file).unwrap_or_default()
    }

    pub(super) fn existing(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.0.join(file)).ok()
    }

    /// A single number; `max` is the largest.
    pub(super) fn number(&self, file: &str) -> u64 {
        number(self.text(file).trim())
    }

    /// The value of a key in a file of `key value` lines.
    pub(super) fn value(&self, file: &str, key: &str) -> u64 {
        flat_value(&self.text(file), key).unwrap_or(0)
    }

    /// The sizes of huge pages (`2MB`) for which there is a file `hugetlb.SIZE.LAST`.
    pub(super) fn huge_page_sizes(&self, last: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0).into_iter().flatten().flatten();
        let mut sizes: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let size = name.strip_prefix("hugetlb.")?.strip_suffix(last)?;
                let size = size.strip_suffix('.')?;
                // What is reserved has files of its own: `hugetlb.2MB.rsvd.current`.
                (!size.contains('.')).then(|| size.to_owned())
            })
            .collect();
        sizes.sort();
        sizes
    }
}

pub(super) fn number(text: &str) -> u64 {
    match text {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// The numbers of a block device: `8:16`.
pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
