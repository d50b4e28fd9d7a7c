//! `wasm-interp run --profile`: samples where a guest's CPU time goes, from outside of its container, and writes it as
//! a flame graph or as folded stacks.
//!
//! The kernel takes the samples and walks the guest's stack: Cranelift's code keeps frame pointers. So guest,
//! runner and their filters are the same with a profile and without. `run` makes a [`ProfileFile`] before anything
//! else, a [`Recording`] between the container's create and its start, and writes the file after its end.

mod folded;
mod perf;
mod recording;
mod svg;
mod symbols;
mod tree;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use thiserror::Error;
use wasm_interp_workload::printable;

use self::recording::CpuProfile;
pub(super) use self::recording::{Recording, RecordingError};

/// Where a profile goes, and in which form.
#[derive(Clone, Debug)]
pub(super) struct ProfileTarget {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    FlameGraph,
    Folded,
}

/// Takes the value of `--profile`.
pub(super) fn target(path: &str) -> Result<ProfileTarget, String> {
    let path = PathBuf::from(path);
    let format = match path.extension().and_then(OsStr::to_str) {
        Some("svg") => Format::FlameGraph,
        Some("folded" | "txt") => Format::Folded,
        _ => {
            return Err(
                "the file's extension says what to write: .svg for a flame graph, .folded or .txt \
                 for folded stacks"
                    .to_owned(),
            );
        }
    };
    Ok(ProfileTarget { path, format })
}

/// The file was not written.
#[derive(Debug, Error)]
#[error(
    "cannot write the profile {path:?}: {source}; name a file in a directory that you can write"
)]
pub(crate) struct ProfileFileError {
    path: PathBuf,
    source: io::Error,
}

/// The file before it has its name. Dropping it leaves nothing.
pub(super) struct ProfileFile {
    target: ProfileTarget,
    file: NamedTempFile,
}

impl ProfileFile {
    /// Makes the file beside the place where it will be.
    pub(super) fn create(target: &ProfileTarget) -> Result<Self, ProfileFileError> {
        let failed = |source| ProfileFileError {
            path: target.path.clone(),
            source,
        };
        if target.path.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let folder = match target.path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".profile-")
            // Less the umask: others may read what is in it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        Ok(Self {
            target: target.clone(),
            file,
        })
    }

    /// Writes the profile, and gives the file its name. `title` says what ran. Returns what to tell the user.
    pub(super) fn write(
        self,
        profile: &CpuProfile,
        title: &str,
    ) -> Result<String, ProfileFileError> {
        let Self {
            target: ProfileTarget { path, format },
            mut file,
        } = self;
        let mut out = BufWriter::new(file.as_file_mut());
        let written = match format {
            Format::FlameGraph => {
                let rate = perf::RATE;
                let samples = profile.tree.samples();
                let about = format!("{samples} samples, {rate} per second of CPU time");
                svg::write(profile, title, &about, &mut out)
            }
            Format::Folded => folded::write(profile, &mut out),
        };
        let written = written.and_then(|()| out.flush());
        drop(out);
        match written.and_then(|()| Ok(file.persist(&path)?)) {
            Ok(_) => Ok(report(profile, &path)),
            Err(source) => Err(ProfileFileError { path, source }),
        }
    }
}

/// What the profile is, in one line.
fn report(profile: &CpuProfile, path: &Path) -> String {
    let CpuProfile {
        tree,
        lost,
        throttled,
        ..
    } = profile;
    let mut text = match tree.samples() {
        0 => "no samples: the program used hardly any CPU time".to_owned(),
        1 => "1 sample".to_owned(),
        samples => format!("{samples} samples"),
    };
    let rate = perf::RATE;
    // Writing to a string does not fail.
    let _ = write!(text, ", {rate} per second of CPU time, {lost} lost");
    if *throttled > 0 {
        let _ = write!(
            text,
            ", fewer {throttled} times, when kernel.perf_event_max_sample_rate was reached"
        );
    }
    format!(
        "profile: {text}: {}",
        printable(&path.display().to_string())
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::tree::{CallTree, Frame};
    use super::*;

    fn profile(samples: usize) -> CpuProfile {
        let mut tree = CallTree::new();
        for _ in 0..samples {
            tree.add(&[Frame::Host]);
        }
        CpuProfile {
            tree,
            symbols: symbols::Symbols::none(),
            lost: 2,
            throttled: 0,
        }
    }

    #[test]
    fn extension_chooses_the_form() {
        assert_eq!(target("a.svg").unwrap().format, Format::FlameGraph);
        assert_eq!(target("a.folded").unwrap().format, Format::Folded);
        assert_eq!(target("dir/a.txt").unwrap().format, Format::Folded);
        for other in ["a", "a.png", "svg", "a.SVG"] {
            let error = target(other).unwrap_err();
            assert!(
                error.contains(".svg") && error.contains(".folded"),
                "{error}"
            );
        }
    }

    #[test]
    fn file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.folded");
        fs::write(&path, "of before").unwrap();
        let file = ProfileFile::create(&target(path.to_str().unwrap()).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "of before");
        let told = file.write(&profile(3), "program").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[host] 3\n");
        assert!(told.starts_with("profile: 3 samples, 999 per second of CPU time, 2 lost: "));
        assert!(told.ends_with("a.folded"), "{told}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn file_that_is_not_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        drop(ProfileFile::create(&target(path.to_str().unwrap()).unwrap()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn file_whose_folder_is_gone_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        let file = ProfileFile::create(&target(path.to_str().unwrap()).unwrap()).unwrap();
        folder.close().unwrap();
        let error = file.write(&profile(1), "program").unwrap_err().to_string();
        assert!(
            error.contains("a.svg") && error.contains("cannot write"),
            "{error}"
        );
    }

    #[test]
    fn path_that_cannot_be_written_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("b.svg");
        fs::create_dir(&directory).unwrap();
        for path in [folder.path().join("none/a.svg"), directory] {
            let target = target(path.to_str().unwrap()).unwrap();
            let error = ProfileFile::create(&target).err().unwrap().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn profile_without_samples_is_a_file_and_said() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.svg", "a.txt"] {
            let path = folder.path().join(name);
            let file = ProfileFile::create(&target(path.to_str().unwrap()).unwrap()).unwrap();
            let told = file.write(&profile(0), "program").unwrap();
            assert!(told.starts_with("profile: no samples: "), "{told}");
            assert!(path.is_file());
        }
    }
}
