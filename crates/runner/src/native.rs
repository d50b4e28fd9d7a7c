//! A native program: looked up as runc does, then this process becomes it.
//!
//! Called by `executor` in the container. Nothing of the image runs before [`NativeCommand::exec`], which
//! replaces this process. Of ours only stdin, stdout and stderr stay.
#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    ffi::{CString, NulError},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::stat::stat,
    unistd::{AccessFlags, chdir, execve, faccessat},
};
use rustix::fs::FileType;
use wasm_interp_workload::{DEFAULT_PATH, NativePlan};

use crate::sys;

/// A program with its arguments, environment and working directory.
#[derive(Debug)]
pub(crate) struct NativeCommand {
    /// As the spec has it.
    name: String,
    search: String,
    cwd: PathBuf,
    /// Whether libcontainer has entered the working directory.
    entered: bool,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl NativeCommand {
    /// Fails if an argument or a variable has a NUL byte.
    pub(crate) fn new(native: NativePlan) -> Result<Self, NulError> {
        let path = native.env.iter().find(|(name, _)| name == "PATH");
        let argv = native.argv.iter().map(|arg| CString::new(arg.as_str()));
        let env = native
            .env
            .iter()
            .map(|(name, value)| CString::new(format!("{name}={value}")));
        Ok(Self {
            argv: argv.collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            search: path.map_or(DEFAULT_PATH, |(_, path)| path).to_owned(),
            name: native.argv.into_iter().next().unwrap_or_default(),
            cwd: native.cwd.into(),
            entered: native.cwd_exists,
        })
    }

    /// What process lists call it until it runs.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// Its file in the container, or the reason why there is none, in runc's words.
    pub(crate) fn find(&self) -> Result<PathBuf, String> {
        let failed = |why: &str| format!("exec: {:?}: {why}", self.name);
        if self.name.contains('/') {
            let path = self.cwd.join(&self.name);
            return match executable(&path) {
                Ok(()) => Ok(path),
                Err(Errno::ENOENT) => Err(failed(&format!(
                    "stat {}: {}",
                    self.name,
                    words(Errno::ENOENT)
                ))),
                Err(errno) => Err(failed(&words(errno))),
            };
        }
        self.search
            .split(':')
            .map(|directory| self.cwd.join(directory).join(&self.name))
            .find(|path| executable(path).is_ok())
            .ok_or_else(|| failed("executable file not found in $PATH"))
    }

    /// Replaces this process by the program, or returns the reason why not.
    pub(crate) fn exec(&self) -> Result<Infallible, String> {
        if !self.entered {
            chdir(&self.cwd).map_err(|errno| {
                format!(
                    "cannot enter the working directory {}: {}",
                    self.cwd.display(),
                    words(errno)
                )
            })?;
        }
        let path = self.find()?;
        let failed = |errno: Errno| {
            let hint = match errno {
                Errno::ENOENT => ": is the interpreter or the loader that it names in the image",
                Errno::ENOEXEC => {
                    ": it is for another kind of machine, or a script without #! line"
                }
                _ => "",
            };
            format!("exec {}: {}{hint}", path.display(), words(errno))
        };
        let file =
            CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| failed(Errno::EINVAL))?;
        sys::default_signals().map_err(|e| format!("cannot reset the signals: {e}"))?;
        execve(&file, &self.argv, &self.env).map_err(failed)
    }
}

/// Fails if this user may not execute the file.
fn executable(path: &Path) -> Result<(), Errno> {
    let mode = stat(path)?.st_mode;
    if FileType::from_raw_mode(mode) == FileType::Directory {
        return Err(Errno::EISDIR);
    }
    if mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    match faccessat(
        nix::fcntl::AT_FDCWD,
        path,
        AccessFlags::X_OK,
        AtFlags::AT_EACCESS,
    ) {
        // An old seccomp profile forbids the question: execve will tell.
        Err(Errno::EPERM | Errno::ENOSYS) => Ok(()),
        result => result,
    }
}

/// The errno in the words of Go programs, as runc and containerd write it.
fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn find(root: &Path, name: &str, path: Option<&str>) -> Result<PathBuf, String> {
        let env = path.map(|path| ("PATH".to_owned(), path.to_owned()));
        let native = NativePlan {
            interpreter: wasm_interp_workload::Interpreter {
                path: "/bin/x".into(),
                found: wasm_interp_workload::FoundBy::ExactPath,
            },
            argv: vec![name.to_owned()],
            env: env.into_iter().collect(),
            cwd: root.display().to_string(),
            cwd_exists: true,
        };
        NativeCommand::new(native).expect("no NUL").find()
    }

    #[test]
    fn program_is_looked_up_as_by_runc() {
        let root = tempfile::tempdir().expect("root");
        let at = |name: &str| root.path().join(name);
        let file = |name: &str, mode| {
            fs::create_dir_all(at(name).parent().expect("parent")).expect("make");
            fs::write(at(name), "").expect("write");
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("chmod");
        };
        file("a/tool", 0o644);
        file("b/tool", 0o755);
        fs::create_dir_all(at("a/folder")).expect("make");
        symlink("tool", at("b/link")).expect("link");

        let (a, b) = (at("a").display().to_string(), at("b").display().to_string());
        let both = format!("{a}:{b}");
        assert_eq!(find(root.path(), "tool", Some(&both)), Ok(at("b/tool")));
        assert_eq!(find(root.path(), "tool", Some("a:b")), Ok(at("b/tool")));
        assert_eq!(find(root.path(), "link", Some(&both)), Ok(at("b/link")));
        assert_eq!(find(root.path(), "./b/tool", None), Ok(at("./b/tool")));
        for (name, path, error) in [
            (
                "tool",
                Some(a.as_str()),
                r#"exec: "tool": executable file not found in $PATH"#,
            ),
            (
                "tool",
                None,
                r#"exec: "tool": executable file not found in $PATH"#,
            ),
            (
                "folder",
                Some(a.as_str()),
                r#"exec: "folder": executable file not found in $PATH"#,
            ),
            (
                "",
                Some(a.as_str()),
                r#"exec: "": executable file not found in $PATH"#,
            ),
            (
                "/no/tool",
                None,
                r#"exec: "/no/tool": stat /no/tool: no such file or directory"#,
            ),
            ("./a/tool", None, r#"exec: "./a/tool": permission denied"#),
            ("./a/folder", None, r#"exec: "./a/folder": is a directory"#),
        ] {
            assert_eq!(find(root.path(), name, path), Err(error.to_owned()));
        }
    }
}
