//! From what is asked to what is done: every default, every ceiling and every refusal of a plan is
//! in this module or called from it.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::PlanError;
use crate::grants::Reach;
use crate::plan::{DirectoryRights, Interpreter, Limits, Native, PLAN_VERSION, Plan, Tmp, Work};
use crate::policy::{NativePolicy, Policy};
use crate::program::{DEFAULT_PATH, Elf, Finder, Program, Target, text};
use crate::request::{Request, set};
use crate::view::{FileKind, View, ViewError};

/// Where programs put what they need for a while.
const TMP: &str = "/tmp";

/// An /etc/passwd longer than this is not read for the sake of HOME.
const MAX_PASSWD: u64 = 1 << 20;

impl Request {
    /// Decides all that is left open.
    pub(crate) fn resolve<V: View>(
        self,
        policy: &Policy,
        view: &V,
    ) -> Result<Work<V::File>, PlanError> {
        let cwd_exists = self.check_cwd(view)?;
        let search = self.env("PATH").unwrap_or(DEFAULT_PATH);
        let finder = Finder {
            view,
            cwd: &self.cwd,
            search,
        };
        match finder.find(&self.args, self.interpreter.as_deref())? {
            Target::Module(program) => self.wasm(program, policy, view),
            Target::Native(elf) => self.native(elf, cwd_exists, policy, view).map(Work::Native),
        }
    }

    fn native<V: View>(
        self,
        elf: Elf,
        cwd_exists: bool,
        policy: &Policy,
        view: &V,
    ) -> Result<Native, PlanError> {
        if policy.native == NativePolicy::Deny {
            return Err(PlanError::NativeDenied { path: elf.path });
        }
        let mut env = self.env.clone();
        if self.env("HOME").is_none_or(str::is_empty) {
            set(&mut env, "HOME", &self.home(view)?);
        }
        Ok(Native {
            interpreter: Interpreter {
                path: text(&elf.path)?,
                found: elf.found,
            },
            env,
            cwd: text(&self.cwd)?,
            argv: self.args,
            cwd_exists,
        })
    }

    fn wasm<V: View>(
        self,
        program: Program<V::File>,
        policy: &Policy,
        view: &V,
    ) -> Result<Work<V::File>, PlanError> {
        let mut reach = Reach::new(self.root);
        for (index, (mount, point)) in self.mounts.iter().zip(view.mounts()).enumerate() {
            reach.mount(index, mount, point)?;
        }
        for device in &self.devices {
            reach.device(device)?;
        }
        let tmp = self.tmp(policy, view, &reach)?;
        if let Some(tmp) = &tmp {
            reach.tmp(tmp, Path::new(TMP))?;
        }
        let (grants, withheld) = reach.into_parts();
        let interpreter = Interpreter {
            path: text(&program.path)?,
            found: program.found,
        };
        let plan = Plan {
            version: PLAN_VERSION,
            interpreter,
            argv: program.argv,
            env: self.environment(view, &program.env)?,
            cwd: text(&self.cwd)?,
            grants,
            withheld,
            tmp,
            limits: Limits {
                memory_bytes: policy.guest_memory(self.memory_limit),
                stack_bytes: policy.stack_bytes,
            },
        };
        Ok(Work::Wasm(Box::new(plan), program.file))
    }

    /// Whether the working directory is there. One that is missing is made by the runtime; a file
    /// cannot be one.
    fn check_cwd<V: View>(&self, view: &V) -> Result<bool, PlanError> {
        match view.resolve(&self.cwd) {
            Ok(resolved) if resolved.kind != FileKind::Directory => {
                Err(PlanError::CwdIsNoDirectory {
                    cwd: self.cwd.clone(),
                })
            }
            Ok(_) => Ok(true),
            Err(ViewError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The `/tmp` to add, if the spec leaves none that can be written to. A mount that the spec
    /// puts there itself is meant as it is.
    fn tmp<V: View>(
        &self,
        policy: &Policy,
        view: &V,
        reach: &Reach,
    ) -> Result<Option<Tmp>, PlanError> {
        let path = match view.resolve(Path::new(TMP)) {
            Ok(tmp) if tmp.kind != FileKind::Directory => return Ok(None),
            Ok(tmp) if reach.rights(&tmp.path) == DirectoryRights::ReadWrite => return Ok(None),
            Ok(tmp) if view.mounts().iter().any(|point| point.path == tmp.path) => return Ok(None),
            Ok(tmp) => tmp.path,
            Err(ViewError::NotFound { .. }) => PathBuf::from(TMP),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Tmp {
            path: text(&path)?,
            bytes: policy.tmp_bytes,
        }))
    }

    fn environment<V: View>(
        &self,
        view: &V,
        script: &[(String, String)],
    ) -> Result<Vec<(String, String)>, PlanError> {
        let mut env = self.env.clone();
        for (name, value) in script {
            set(&mut env, name, value);
        }
        // An empty HOME is as good as none, and libcontainer would then ask the image's own NSS
        // modules for one.
        if self.env("HOME").is_none_or(str::is_empty) {
            set(&mut env, "HOME", &self.home(view)?);
        }
        if self.env("TMPDIR").is_none() {
            set(&mut env, "TMPDIR", TMP);
        }
        if self.env("PWD").is_none() {
            set(&mut env, "PWD", &text(&self.cwd)?);
        }
        Ok(env)
    }

    /// The user's home by the container's own /etc/passwd, as runc has it; `/` if that is silent.
    fn home<V: View>(&self, view: &V) -> Result<String, PlanError> {
        let passwd = Path::new("/etc/passwd");
        let file = match view.open(passwd) {
            Ok(file) => file,
            // A strange image must not keep its program from running.
            Err(
                ViewError::NotFound { .. } | ViewError::NotRegular { .. } | ViewError::Loop { .. },
            ) => {
                return Ok("/".to_owned());
            }
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(MAX_PASSWD)
            .read_to_end(&mut bytes)
            .map_err(|source| PlanError::Read {
                path: passwd.to_owned(),
                source,
            })?;
        Ok(home_of(self.uid, &String::from_utf8_lossy(&bytes))
            .unwrap_or("/")
            .to_owned())
    }

    fn env(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The sixth field of the entry of `uid`, passwd(5).
fn home_of(uid: u32, passwd: &str) -> Option<&str> {
    let mut entries = passwd.lines().map(|line| line.split(':'));
    entries
        .find_map(|mut fields| {
            (fields.nth(2)?.parse() == Ok(uid))
                .then(|| fields.nth(2))
                .flatten()
        })
        .filter(|home| home.starts_with('/') && !home.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_read_as_passwd_5_says() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\napp:x:1000:1000::/home/app:/bin/sh\n\
                      odd:x:1001:1001::relative:/bin/sh\n";
        assert_eq!(home_of(0, passwd), Some("/root"));
        assert_eq!(home_of(1000, passwd), Some("/home/app"));
        assert_eq!(home_of(1001, passwd), None, "a relative home is none");
        assert_eq!(home_of(7, passwd), None);
    }
}
