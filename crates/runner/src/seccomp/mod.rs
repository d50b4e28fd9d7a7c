//! The seccomp filter of a container, made from its spec.
//!
//! Made by `privileges` outside, installed by it inside. libseccomp makes the program of the rules. As
//! runc does, we add that a system call newer than the profile answers ENOSYS ([`enosys`]).

mod enosys;
mod listener;
mod load;
mod question;

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{Read, Seek},
    os::fd::RawFd,
    path::Path,
};

use libc::sock_filter;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
    error::SeccompError as LibraryError,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

use self::{enosys::Newest, listener::SeccompAgent};
pub(crate) use self::{load::Loader, question::Question};
pub(crate) use wasm_interp_bpf as steps;

/// The kernel takes no longer program (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
/// With more system calls the program searches a tree, as under runc, instead of a list.
const MANY: usize = 32;
/// The system calls that hand the descriptor of the notifications over.
const OF_THE_HANDOVER: [&str; 2] = ["sendmsg", "write"];

/// The filter could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("linux.seccomp.flags: {flag} is not supported by this kernel; leave it out")]
    Flag { flag: LinuxSeccompFilterFlag },
    #[error(
        "linux.seccomp: SCMP_ACT_NOTIFY cannot be the default action, nor that of {}: the runner \
         itself would wait for the listener (linux.seccomp.listenerPath); choose another action",
        OF_THE_HANDOVER.join(" or ")
    )]
    NotifyTooMuch,
    #[error(
        "linux.seccomp.{field}: {value} is not a number that the action can answer; correct it"
    )]
    Answer { field: &'static str, value: u32 },
    #[error("linux.seccomp.syscalls: the rule for {name:?} cannot be made: {source}; correct it")]
    Rule { name: String, source: LibraryError },
    #[error(
        "linux.seccomp: the rules make {0} steps, and the kernel takes {LONGEST}; shorten them"
    )]
    Long(usize),
    #[error("cannot make the filter of linux.seccomp: {0}")]
    Library(#[from] LibraryError),
    #[error("cannot read the filter that was made from linux.seccomp: {0}")]
    Export(#[from] std::io::Error),
    #[error(transparent)]
    Listener(#[from] listener::ListenerError),
}

/// A program for the kernel, and how to load it.
pub(crate) struct Filter {
    program: Vec<sock_filter>,
    flags: u32,
    listener: Option<SeccompAgent>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} steps)", self.program.len())
    }
}

impl Filter {
    /// The filter that `profile` describes, and a warning for each part that it lacks. The seccomp agent gets
    /// the other arguments.
    pub(crate) fn of(
        profile: &LinuxSeccomp,
        id: &str,
        bundle: &Path,
        annotations: &HashMap<String, String>,
    ) -> Result<(Self, BTreeSet<String>), SeccompError> {
        let mut warnings = BTreeSet::new();
        let notifies = notifies(profile)?;
        let mut flags = flags(profile, notifies)?;
        let mut listener = None;
        if notifies {
            flags |= load::NEW_LISTENER;
            listener = Some(SeccompAgent::connect(profile, id, bundle, annotations)?);
        }
        let default = action(
            profile.default_action(),
            profile.default_errno_ret(),
            "defaultErrnoRet",
        )?;
        let mut context = ScmpFilterContext::new(default)?;
        let architectures = add_architectures(&mut context, profile, &mut warnings);
        let names = profile.syscalls().iter().flatten();
        if names.map(|rule| rule.names().len()).sum::<usize>() > MANY {
            // An older library makes a list, which gives the same answers.
            let _ = context.set_ctl_optimize(2);
        }
        add_rules(&mut context, profile, default, &mut warnings)?;

        let mut program = Vec::new();
        if !permits(profile.default_action()) {
            program = enosys::program(&newest(profile, &architectures));
        }
        program.extend(exported(&context)?);
        if program.len() > LONGEST {
            return Err(SeccompError::Long(program.len()));
        }
        let filter = Self {
            program,
            flags,
            listener,
        };
        Ok((filter, warnings))
    }

    /// A descriptor that [`Self::prepare`] needs.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.listener.as_ref().map(SeccompAgent::descriptor)
    }

    /// To be called before the host's files are closed and before [`Self::install`].
    pub(crate) fn prepare(&self) -> std::io::Result<()> {
        self.listener.as_ref().map_or(Ok(()), SeccompAgent::prepare)
    }

    /// Puts the filter on this process and all that it starts. There is no way back.
    pub(crate) fn install(&self) -> std::io::Result<()> {
        let notifications = load::load(&self.program, self.flags)?;
        match (&self.listener, notifications) {
            (Some(listener), Some(notifications)) => listener.hand_over(&notifications),
            _ => Ok(()),
        }
    }

    /// Whether the kernel gets to see the call. A listener may answer what it likes.
    pub(crate) fn permits(&self, question: &Question) -> bool {
        matches!(
            self.action(question),
            Some(libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG | libc::SECCOMP_RET_USER_NOTIF)
        )
    }

    /// Whether the call has no result, not even an error.
    pub(crate) fn ends_process(&self, question: &Question) -> bool {
        const KILL_THREAD: u32 = libc::SECCOMP_RET_KILL_THREAD;
        matches!(
            self.action(question),
            None | Some(libc::SECCOMP_RET_KILL_PROCESS | KILL_THREAD | libc::SECCOMP_RET_TRAP)
        )
    }

    fn action(&self, question: &Question) -> Option<u32> {
        let answer = question.answer(&self.program)?;
        Some(answer & libc::SECCOMP_RET_ACTION_FULL)
    }
}

/// Puts `program` on this process and all that it starts. There is no way back.
pub(crate) fn load(program: &[sock_filter], loader: Loader) -> std::io::Result<()> {
    match loader {
        Loader::Seccomp => load::load(program, 0).map(drop),
        Loader::Prctl => load::load_by_prctl(program),
    }
}

fn notifies(profile: &LinuxSeccomp) -> Result<bool, SeccompError> {
    let notify = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == notify {
        return Err(SeccompError::NotifyTooMuch);
    }
    let mut notified = profile
        .syscalls()
        .iter()
        .flatten()
        .filter(|rule| rule.action() == notify)
        .flat_map(LinuxSyscall::names)
        .peekable();
    let notifies = notified.peek().is_some();
    if notified.any(|name| OF_THE_HANDOVER.contains(&name.as_str())) {
        return Err(SeccompError::NotifyTooMuch);
    }
    Ok(notifies)
}

fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u32, SeccompError> {
    let mut flags = 0;
    for &flag in profile.flags().iter().flatten() {
        let value = match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => load::LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => load::SPEC_ALLOW,
            // It has no effect without notifications. With them the kernel wants both flags.
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if notifies => {
                load::NEW_LISTENER | load::WAIT_KILLABLE_RECV
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => continue,
            // It is for other threads, and there are none.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => continue,
        };
        if !load::is_supported(value) {
            return Err(SeccompError::Flag { flag });
        }
        flags |= value;
    }
    Ok(flags)
}

/// Adds the profile's architectures to the native one, and returns all.
fn add_architectures(
    context: &mut ScmpFilterContext,
    profile: &LinuxSeccomp,
    warnings: &mut BTreeSet<String>,
) -> Vec<Arch> {
    let mut all = vec![enosys::NATIVE];
    for &architecture in profile.architectures().iter().flatten() {
        if architecture == Arch::ScmpArchNative || all.contains(&architecture) {
            continue;
        }
        let added = known(architecture).and_then(|known| context.add_arch(known).map(drop));
        match added {
            Ok(()) => all.push(architecture),
            // No process of it can run here; if one could, its system calls would end it.
            Err(error) => {
                warnings.insert(format!(
                    "linux.seccomp.architectures: {architecture} cannot be filtered here: {error}; \
                     a system call of it ends the process"
                ));
            }
        }
    }
    all
}

fn known(architecture: Arch) -> Result<ScmpArch, LibraryError> {
    architecture.to_string().parse()
}

fn add_rules(
    context: &mut ScmpFilterContext,
    profile: &LinuxSeccomp,
    default: ScmpAction,
    warnings: &mut BTreeSet<String>,
) -> Result<(), SeccompError> {
    for rule in profile.syscalls().iter().flatten() {
        let action = action(rule.action(), rule.errno_ret(), "syscalls[].errnoRet")?;
        if action == default {
            // The library refuses a rule that changes nothing.
            continue;
        }
        for name in rule.names() {
            let Ok(call) = ScmpSyscall::from_name(name) else {
                // Newer than the library. If the profile allows it, it answers ENOSYS, as an older
                // kernel does. A call that the profile would deny is another matter.
                if permits(profile.default_action()) && !permits(rule.action()) {
                    warnings.insert(format!(
                        "linux.seccomp.syscalls: {name:?} is not a system call that this version \
                         knows; it is not denied"
                    ));
                }
                continue;
            };
            add_rule(context, action, call, rule.args().as_deref()).map_err(|source| {
                SeccompError::Rule {
                    name: name.clone(),
                    source,
                }
            })?;
        }
    }
    Ok(())
}

fn add_rule(
    context: &mut ScmpFilterContext,
    action: ScmpAction,
    call: ScmpSyscall,
    arguments: Option<&[LinuxSeccompArg]>,
) -> Result<(), LibraryError> {
    let arguments = arguments.unwrap_or_default();
    let conditions = arguments
        .iter()
        .map(condition)
        .collect::<Result<Vec<_>, _>>()?;
    let indices: BTreeSet<_> = arguments.iter().map(LinuxSeccompArg::index).collect();
    if indices.len() == conditions.len() {
        context.add_rule_conditional(action, call, &conditions)?;
        return Ok(());
    }
    // The library compares an argument once in a rule. Like runc: any of the conditions is enough.
    for condition in conditions {
        context.add_rule_conditional(action, call, &[condition])?;
    }
    Ok(())
}

fn condition(argument: &LinuxSeccompArg) -> Result<ScmpArgCompare, LibraryError> {
    let (value, operand) = (argument.value(), argument.value_two());
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            // `value` is the mask, `valueTwo` what is to be left of the argument.
            return Ok(ScmpArgCompare::new(
                index(argument),
                ScmpCompareOp::MaskedEqual(value),
                operand.unwrap_or(0),
            ));
        }
    };
    Ok(ScmpArgCompare::new(index(argument), operator, value))
}

/// The library refuses an index that is too large.
fn index(argument: &LinuxSeccompArg) -> u32 {
    u32::try_from(argument.index()).unwrap_or(u32::MAX)
}

fn action(
    action: LinuxSeccompAction,
    answer: Option<u32>,
    field: &'static str,
) -> Result<ScmpAction, SeccompError> {
    // The kernel has 16 bits for it; runc's default is the same.
    let value = answer.unwrap_or(libc::EPERM.unsigned_abs());
    let number = u16::try_from(value).map_err(|_| SeccompError::Answer { field, value });
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(number?.into()),
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => ScmpAction::Trace(number?),
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    })
}

/// Whether the kernel executes the call. A tracer decides about calls that it does not know.
fn permits(action: LinuxSeccompAction) -> bool {
    matches!(
        action,
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            | LinuxSeccompAction::ScmpActTrace
    )
}

/// The newest system call that the profile names, for each architecture.
fn newest(profile: &LinuxSeccomp, architectures: &[Arch]) -> Vec<Newest> {
    let names = || {
        let rules = profile.syscalls().iter().flatten();
        rules.flat_map(LinuxSyscall::names)
    };
    architectures
        .iter()
        .filter_map(|&architecture| {
            let known = known(architecture).ok()?;
            let newest = names()
                .filter_map(|name| ScmpSyscall::from_name_by_arch(name, known).ok())
                // The library numbers what the architecture does not have below zero.
                .filter_map(|call| u32::try_from(call.as_raw_syscall()).ok())
                .max()?;
            Some(Newest {
                architecture,
                newest,
            })
        })
        .collect()
}

/// The library's program, in the kernel's form.
fn exported(context: &ScmpFilterContext) -> Result<Vec<sock_filter>, SeccompError> {
    let memory = memfd_create("filter", MFdFlags::MFD_CLOEXEC).map_err(std::io::Error::from)?;
    context.export_bpf(&memory)?;
    let mut file = File::from(memory);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let (steps, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() {
        return Err(std::io::Error::other("half a step is at its end").into());
    }
    Ok(steps
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| sock_filter {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect())
}

#[cfg(test)]
mod tests;
