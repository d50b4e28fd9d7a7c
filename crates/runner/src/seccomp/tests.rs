//! What a filter answers.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
const X32: u32 = 0x4000_0000;

fn filter(profile: Value) -> (Filter, Vec<String>) {
    let (filter, warnings) = try_filter(profile).expect("a filter");
    (filter, warnings.into_iter().collect())
}

fn try_filter(profile: Value) -> Result<(Filter, BTreeSet<String>), SeccompError> {
    let profile: LinuxSeccomp = serde_json::from_value(profile).expect("a profile");
    Filter::of(&profile, "test", Path::new("/"), &HashMap::new())
}

/// Answers for a call by its number and its first argument.
fn answer(filter: &Filter, architecture: Arch, number: u32, argument: u64) -> u32 {
    let architecture = match architecture {
        Arch::ScmpArchX32 => Arch::ScmpArchX86_64 as u32,
        other => other as u32,
    };
    Question::of("test", number.into(), [argument, 0, 0, 0, 0, 0])
        .on(architecture)
        .answer(&filter.program)
        .expect("a program of seccomp")
}

fn number(name: &str, architecture: Arch) -> u32 {
    let known = known(architecture).expect("an architecture");
    let call = ScmpSyscall::from_name_by_arch(name, known).expect("a call");
    u32::try_from(call.as_raw_syscall()).expect("a number")
}

fn native(filter: &Filter, name: &str) -> u32 {
    answer(filter, enosys::NATIVE, number(name, enosys::NATIVE), 0)
}

#[test]
fn call_newer_than_the_profile_gets_enosys_and_an_older_one_the_default_action() {
    let (filter, warnings) = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read", "statx"], "action": "SCMP_ACT_ALLOW" }],
    }));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(native(&filter, "read"), ALLOW);
    assert_eq!(native(&filter, "statx"), ALLOW);
    assert_eq!(native(&filter, "mkdirat"), EPERM);
    for newer in ["clone3", "faccessat2", "close_range"] {
        assert_eq!(native(&filter, newer), ENOSYS, "{newer}");
    }
    let newest = number("statx", enosys::NATIVE);
    for beyond in [newest + 1, 1000, X32 - 1] {
        assert_eq!(answer(&filter, enosys::NATIVE, beyond, 0), ENOSYS);
    }
}

/// Every rule says that the profile's authors knew the call.
#[test]
fn call_that_the_profile_denies_by_name_gets_the_denial_not_enosys() {
    let (filter, _) = filter(json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
        ],
    }));
    assert_eq!(native(&filter, "statx"), libc::SECCOMP_RET_KILL_PROCESS);
    assert_eq!(native(&filter, "clone3"), libc::SECCOMP_RET_ERRNO | 13);
    assert_eq!(native(&filter, "faccessat2"), ENOSYS);
}

#[test]
fn profile_that_allows_unknown_calls_answers_no_enosys() {
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let (filter, _) = filter(json!({
            "defaultAction": default,
            "syscalls": [{ "names": ["mkdirat"], "action": "SCMP_ACT_ERRNO" }],
        }));
        assert_eq!(native(&filter, "mkdirat"), EPERM, "{default}");
        assert_ne!(native(&filter, "clone3"), ENOSYS, "{default}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn newest_call_is_found_per_architecture() {
    let (filter, warnings) = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": ["read", "statx"], "action": "SCMP_ACT_ALLOW" }],
    }));
    assert_eq!(warnings, [""; 0]);
    for architecture in [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32] {
        let ask = |name| answer(&filter, architecture, number(name, architecture), 0);
        assert_eq!(ask("read"), ALLOW, "{architecture}");
        assert_eq!(ask("statx"), ALLOW, "{architecture}");
        assert_eq!(ask("mkdirat"), EPERM, "{architecture}");
        assert_eq!(ask("clone3"), ENOSYS, "{architecture}");
    }
    // x32 numbers some calls from 512 on.
    assert_eq!(
        number("statx", Arch::ScmpArchX32),
        X32 + number("statx", Arch::ScmpArchX86_64)
    );
}

/// As in the profiles of Docker and containerd, which allow clone(2) without new namespaces.
#[test]
fn a_masked_argument_is_compared_with_the_second_value() {
    const NAMESPACES: u64 = 0x7E02_0000;
    let (filter, _) = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" },
        ] }],
    }));
    let clone = number("clone", enosys::NATIVE);
    let ask = |flags: i32| answer(&filter, enosys::NATIVE, clone, flags.unsigned_abs().into());
    assert_eq!(ask(libc::SIGCHLD), ALLOW);
    assert_eq!(ask(libc::CLONE_VM | libc::CLONE_THREAD), ALLOW);
    assert_eq!(ask(libc::CLONE_NEWUSER | libc::SIGCHLD), EPERM);
}

#[test]
fn two_conditions_on_one_argument_are_alternatives() {
    let condition = |value: u64| json!({ "index": 0, "value": value, "op": "SCMP_CMP_EQ" });
    let (filter, _) = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_ALLOW",
                       "args": [condition(0), condition(8)] }],
    }));
    let call = number("personality", enosys::NATIVE);
    let ask = |argument| answer(&filter, enosys::NATIVE, call, argument);
    assert_eq!((ask(0), ask(8), ask(4)), (ALLOW, ALLOW, EPERM));
}

#[test]
fn filter_as_a_tree_answers_as_a_filter_as_a_list() {
    // More than a list is made of.
    let names = [
        "read",
        "write",
        "close",
        "fstat",
        "lseek",
        "mmap",
        "mprotect",
        "munmap",
        "brk",
        "ioctl",
        "pread64",
        "pwrite64",
        "readv",
        "writev",
        "madvise",
        "nanosleep",
        "getpid",
        "socket",
        "connect",
        "sendto",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "shutdown",
        "bind",
        "listen",
        "execve",
        "exit",
        "wait4",
        "kill",
        "uname",
        "fcntl",
        "flock",
        "fsync",
        "getcwd",
        "chdir",
    ];
    assert!(names.len() > MANY);
    let (filter, _) = filter(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": names.as_slice(), "action": "SCMP_ACT_ALLOW" }],
    }));
    for name in names {
        assert_eq!(native(&filter, name), ALLOW, "{name}");
    }
    assert_eq!(native(&filter, "fdatasync"), EPERM);
    assert_eq!(native(&filter, "clone3"), ENOSYS);
}

#[test]
fn unknown_call_is_skipped_with_a_warning_if_the_profile_denies_it() {
    let profile = |default: &str, action: &str| {
        json!({
            "defaultAction": default,
            "syscalls": [{ "names": ["from_the_future", "mkdirat"], "action": action }],
        })
    };
    let (allowed, warnings) = filter(profile("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW"));
    assert_eq!(warnings, [""; 0]);
    assert_eq!(native(&allowed, "mkdirat"), ALLOW);
    let (denied, warnings) = filter(profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"));
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("\"from_the_future\"") && warnings[0].contains("not denied"),
        "{warnings:?}"
    );
    assert_eq!(native(&denied, "mkdirat"), EPERM);
}

/// Its system calls end a process, which is more than the profile asks for.
#[test]
fn an_architecture_of_another_byte_order_is_left_out_with_a_warning() {
    let (filter, warnings) = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_NATIVE", "SCMP_ARCH_S390X"],
    }));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("SCMP_ARCH_S390X"), "{warnings:?}");
    assert_eq!(
        answer(&filter, Arch::ScmpArchS390x, 1, 0),
        libc::SECCOMP_RET_KILL_THREAD
    );
}

#[test]
fn invalid_profile_is_refused_with_the_name_of_its_field() {
    let rule = |name: &str, action: &str, more: Value| {
        let mut rule = json!({ "names": [name], "action": action });
        for (name, value) in more.as_object().expect("an object") {
            rule[name] = value.clone();
        }
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
    };
    let argument = json!({ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" });
    for (profile, words) in [
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "cannot be the default action",
        ),
        (
            rule("sendmsg", "SCMP_ACT_NOTIFY", json!({})),
            "nor that of sendmsg or write",
        ),
        (
            rule("mkdirat", "SCMP_ACT_NOTIFY", json!({})),
            "linux.seccomp.listenerPath: it is missing",
        ),
        (
            rule("mkdirat", "SCMP_ACT_ERRNO", json!({ "errnoRet": 70_000 })),
            "syscalls[].errnoRet: 70000",
        ),
        (
            rule("mkdirat", "SCMP_ACT_ERRNO", json!({ "args": [argument] })),
            "the rule for \"mkdirat\" cannot be made",
        ),
    ] {
        let error = try_filter(profile).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn flags_are_refused_if_the_kernel_does_not_know_them() {
    assert!(load::is_supported(load::LOG));
    assert!(!load::is_supported(1 << 30));
    let (logged, _) = filter(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC",
                  "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    }));
    assert_eq!(logged.flags, load::LOG);
}
