//! The mount table of a process, as proc(5) describes `/proc/PID/mountinfo`. The one parser of the workspace; it
//! does not know what its callers look for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The directory of the file system that is mounted; for a bind mount not its top.
    pub root: PathBuf,
    /// Where it is mounted, beneath the process's root directory.
    pub mount_point: PathBuf,
    /// Options of this mount: `rw`, `nodev` …
    pub options: Vec<String>,
    /// How it is connected with others: `shared:1`, `master:2` …
    pub propagation: Vec<String>,
    /// Type of the file system: `overlay`, `cgroup2` …
    pub fs_type: String,
    /// What is mounted: a device, or a name that the file system gave itself.
    pub source: PathBuf,
    /// Options of the file system. A cgroup v1 hierarchy lists its controllers here.
    pub super_options: Vec<String>,
}

impl MountInfo {
    /// Whether a mount that is made elsewhere may appear beneath it.
    #[must_use]
    pub fn receives(&self) -> bool {
        let connected =
            |field: &String| field.starts_with("shared:") || field.starts_with("master:");
        self.propagation.iter().any(connected)
    }
}

/// Reads the table of a process, for example `/proc/self/mountinfo`.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<MountInfo>> {
    Ok(parse(&fs::read(path)?))
}

/// The mounts of the text, in its order: a later mount hides an earlier one of the same mount point. A line that is
/// not as proc(5) has it is left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<MountInfo> {
    text.split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect()
}

/// `36 35 98:0 /root /point rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue`: any number of optional
/// fields is between the options and the lone hyphen.
fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    let (root, mount_point, options) = (fields.next()?, fields.next()?, fields.next()?);
    let propagation = fields.by_ref().take_while(|field| *field != b"-");
    let propagation = propagation.map(text).collect();
    let (fs_type, source, super_options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(MountInfo {
        root: path(root),
        mount_point: path(mount_point),
        options: list(options),
        propagation,
        fs_type: text(fs_type),
        source: path(source),
        super_options: list(super_options),
    })
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn list(field: &[u8]) -> Vec<String> {
    field.split(|byte| *byte == b',').map(text).collect()
}

/// Resolves the octal escapes of the kernel: `\040` for a space, `\011`, `\012` and `\134`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| first == b'\\' && digits.iter().all(u8::is_ascii_digit))
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn optional_fields_may_be_missing_or_many() {
        for optional in ["", "shared:1 ", "shared:1 master:2 propagate_from:3 "] {
            let line = format!(
                "36 35 98:0 /mnt1 /mnt2 rw,noatime {optional}- ext3 /dev/root rw,errors=continue"
            );
            let parsed = parse(line.as_bytes());
            let expected = MountInfo {
                root: "/mnt1".into(),
                mount_point: "/mnt2".into(),
                options: vec!["rw".into(), "noatime".into()],
                propagation: optional.split_whitespace().map(str::to_owned).collect(),
                fs_type: "ext3".into(),
                source: "/dev/root".into(),
                super_options: vec!["rw".into(), "errors=continue".into()],
            };
            assert_eq!(parsed[0].receives(), !optional.is_empty(), "{optional:?}");
            assert_eq!(parsed, [expected], "{optional:?}");
        }
    }

    #[test]
    fn escapes_are_resolved_and_bytes_kept() {
        let table = b"1 1 0:1 / /a\\040b\\134c\\011 rw - tmpfs a\\040b rw\n2 1 0:1 / /\xff\\08\\9 \
                      rw - tmpfs x rw\n";
        let parsed = parse(table);
        assert_eq!(parsed[0].mount_point, Path::new("/a b\\c\t"));
        assert_eq!(parsed[0].source, Path::new("a b"));
        // No octal number of three digits.
        assert_eq!(
            parsed[1].mount_point.as_os_str().as_bytes(),
            b"/\xff\\08\\9"
        );
    }

    #[test]
    fn malformed_lines_are_left_out() {
        let table = b"\n1 1 0:1 /\n1 1 0:1 / /x rw tmpfs x rw\n1 1 0:1 / /ok rw - tmpfs x rw\n1 1 \
                      0:1 / /y rw - tmpfs x\n";
        let points: Vec<_> = parse(table)
            .into_iter()
            .map(|one| one.mount_point)
            .collect();
        assert_eq!(points, [Path::new("/ok")]);
    }

    #[test]
    fn own_table_has_the_root() {
        let mounts = read(Path::new("/proc/self/mountinfo")).expect("mountinfo");
        assert!(mounts.iter().any(|one| one.mount_point == Path::new("/")));
    }
}
