//! Resolves a request into a plan. Every default, every limit and every refusal of a plan is in this
//! module or in a function that it calls.

use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::annotations::Annotations;
use crate::dev::{check_dev, devices};
use crate::error::PlanError;
use crate::grants::{Grants, NetworkRequest, without_unix_sockets};
use crate::plan::{
    GuestKind, GuestLimits, Interpreter, MountAccess, NativePlan, PLAN_VERSION, Plan, Planned, Tmp,
    Withheld,
};
use crate::program::{AnyProgram, DEFAULT_PATH, NativeProgram, ProgramSearch, WasmProgram, text};
use crate::request::{ContainerRequest, set};
use crate::view::{FileKind, HostNetwork, MountContent, View, ViewError};
use wasm_interp_network::Network;
use wasm_interp_policy::{NativePolicy, Policy};

/// The directory of temporary files.
const TMP: &str = "/tmp";

/// To find HOME, an /etc/passwd of up to this many bytes is read.
const MAX_PASSWD: u64 = 1 << 20;

/// Decides what the container that `spec` describes does. If its interpreter is Wasm, this opens it, and
/// callers identify, compile and run that open file: its path may lead to another file later.
///
/// # Errors
/// If the spec is invalid, requests what this version or this node does not allow, or names a file that
/// `view` does not have. [`PlanError::kind`] tells these apart.
pub fn decide<V: View>(
    spec: &Spec,
    policy: &Policy,
    view: &V,
) -> Result<Planned<V::File>, PlanError> {
    let planned = ContainerRequest::parse(spec)?.resolve(policy, view)?;
    let mounts = spec.mounts().iter().flatten().zip(view.mounts());
    match &planned {
        // Only what the guest gets counts: other mounts and devices are not made.
        Planned::Wasm(..) => check_dev(
            mounts
                .filter(|(_, point)| !matches!(point.content, MountContent::Refused(_)))
                .map(|(mount, point)| (mount, point.path.as_path())),
            &[],
        ),
        Planned::Native(_) => check_dev(
            mounts.map(|(mount, point)| (mount, point.path.as_path())),
            devices(spec),
        ),
    }?;
    Ok(planned)
}

/// What a guest with the annotations of `spec` gets of the network, and what of the node's default it does not get.
///
/// # Errors
/// If an annotation cannot be read, or asks for more than `policy` allows.
pub fn network_of(
    spec: &Spec,
    policy: &Policy,
    host: HostNetwork,
) -> Result<(Network, Vec<Withheld>), PlanError> {
    NetworkRequest::parse(&Annotations::of(spec))?.resolve(&policy.network, host)
}

impl ContainerRequest {
    /// Decides everything that the request leaves open.
    pub(crate) fn resolve<V: View>(
        self,
        policy: &Policy,
        view: &V,
    ) -> Result<Planned<V::File>, PlanError> {
        let cwd_exists = self.check_cwd(view)?;
        let search = self.env("PATH").unwrap_or(DEFAULT_PATH);
        let search_rules = ProgramSearch {
            view,
            cwd: &self.cwd,
            search,
        };
        match search_rules.find(&self.args, self.interpreter.as_deref())? {
            AnyProgram::Wasm(program) => self.wasm(program, policy, view),
            AnyProgram::Native(program) => self
                .native(program, cwd_exists, policy, view)
                .map(Planned::Native),
        }
    }

    fn native<V: View>(
        self,
        program: NativeProgram,
        cwd_exists: bool,
        policy: &Policy,
        view: &V,
    ) -> Result<NativePlan, PlanError> {
        if policy.native == NativePolicy::Deny {
            return Err(PlanError::NativeDenied { path: program.path });
        }
        let mut env = self.env.clone();
        self.add_home(&mut env, view)?;
        Ok(NativePlan {
            interpreter: Interpreter {
                path: text(&program.path)?,
                found: program.found,
            },
            env,
            cwd: text(&self.cwd)?,
            argv: self.args,
            cwd_exists,
        })
    }

    fn wasm<V: View>(
        self,
        program: WasmProgram<V::File>,
        policy: &Policy,
        view: &V,
    ) -> Result<Planned<V::File>, PlanError> {
        let (network, not_granted) = self
            .network
            .clone()
            .resolve(&policy.network, view.network()?)?;
        let (network, without_effect) = match program.kind {
            GuestKind::Module => (network, Vec::new()),
            GuestKind::Component => without_unix_sockets(network),
        };
        let mut grants = Grants::new(self.root);
        for (index, (mount, point)) in self.mounts.iter().zip(view.mounts()).enumerate() {
            grants.mount(index, mount, point, program.kind, &network)?;
        }
        for device in &self.devices {
            grants.device(device)?;
        }
        if let Some(capabilities) = &self.capabilities {
            grants.capabilities(capabilities);
        }
        let tmp = self.tmp(policy, view, &grants)?;
        if let Some(tmp) = &tmp {
            grants.tmp(tmp);
        }
        let (grants, mut withheld) = grants.into_parts();
        withheld.extend(not_granted);
        withheld.extend(without_effect);
        let interpreter = Interpreter {
            path: text(&program.path)?,
            found: program.found,
        };
        let plan = Plan {
            version: PLAN_VERSION,
            interpreter,
            kind: program.kind,
            argv: program.argv,
            env: self.environment(view, &program.env)?,
            cwd: text(&self.cwd)?,
            grants,
            network,
            withheld,
            tmp,
            limits: GuestLimits {
                memory_bytes: policy.memory.guest_ceiling(self.memory_limit),
                stack_bytes: policy.stack_bytes,
            },
        };
        Ok(Planned::Wasm(Box::new(plan), program.file))
    }

    /// Whether the working directory exists. The runtime makes a missing one. A file at its path is an
    /// error.
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

    /// The `/tmp` to add if the container has none that it can write to. If the spec itself mounts
    /// something on `/tmp`, that mount stays as it is.
    fn tmp<V: View>(
        &self,
        policy: &Policy,
        view: &V,
        grants: &Grants,
    ) -> Result<Option<Tmp>, PlanError> {
        let path = match view.resolve(Path::new(TMP)) {
            Ok(tmp) if tmp.kind != FileKind::Directory => return Ok(None),
            // /tmp is a symlink of the image to /. A tmpfs there would hide the whole image.
            Ok(tmp) if tmp.path == Path::new("/") => return Ok(None),
            Ok(tmp) if grants.access(&tmp.path) == MountAccess::Writable => return Ok(None),
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
        self.add_home(&mut env, view)?;
        if self.env("TMPDIR").is_none() {
            set(&mut env, "TMPDIR", TMP);
        }
        if self.env("PWD").is_none() {
            set(&mut env, "PWD", &text(&self.cwd)?);
        }
        Ok(env)
    }

    /// Adds HOME if the spec names none. An empty one counts as absent, because libcontainer would then ask the
    /// image's NSS modules for one.
    fn add_home<V: View>(
        &self,
        env: &mut Vec<(String, String)>,
        view: &V,
    ) -> Result<(), PlanError> {
        if self.env("HOME").is_none_or(str::is_empty) {
            set(env, "HOME", &self.home(view)?);
        }
        Ok(())
    }

    /// The user's home in the container's /etc/passwd, as with runc; `/` if the file does not name it.
    fn home<V: View>(&self, view: &V) -> Result<String, PlanError> {
        let passwd = Path::new("/etc/passwd");
        let file = match view.open(passwd) {
            Ok(file) => file,
            // An unreadable /etc/passwd is no reason to refuse the container.
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

/// The sixth field (the home directory, passwd(5)) of the entry of `uid`.
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
