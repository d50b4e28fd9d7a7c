//! What the filter allows, by its program and by the kernel.

use std::{collections::BTreeSet, path::Path};

use libc::c_long;
use nix::{
    sys::{
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;
use wasm_interp_wasi::{ModesBy, SYS_FCHMODAT2};

use super::{
    CallGroup, Fence,
    program::{REFUSE, assemble, fail},
    rules::{
        ALL_SOCKETS, Answer, HOPS, INTERNET_SOCKETS, MODES_BY_FCHMODAT, MODES_BY_FCHMODAT2, MOST,
        MOST_OF_SOCKETS, PAIRS, RULES, Rule, SIGNALS, SOCKETS, UNIX_SOCKETS,
    },
};
use crate::{
    seccomp::{Filter, Loader, Question, load},
    sys::{self, Parent},
};

/// Beyond every number of a system call that a kernel has.
const BEYOND: c_long = 1024;

fn answer(number: c_long, arguments: [u64; 6]) -> u32 {
    Question::of("test", number, arguments)
        .answer(&assemble(RULES))
        .expect("a program of seccomp")
}

#[test]
fn filter_has_at_most_fifty_calls_each_once() {
    for modes in [MODES_BY_FCHMODAT2, MODES_BY_FCHMODAT] {
        let rules: Vec<_> = RULES.iter().chain(modes).collect();
        let numbers: BTreeSet<_> = rules.iter().map(|rule| rule.number).collect();
        assert_eq!(numbers.len(), rules.len(), "a call is listed twice");
        let allowed = rules
            .iter()
            .filter(|r| matches!(r.answer, Answer::Allow(_)));
        let count = allowed.count();
        assert!(count <= MOST, "{count} calls");
    }
}

#[test]
fn every_call_that_is_not_listed_is_refused() {
    let listed: BTreeSet<_> = RULES.iter().map(|rule| rule.number).collect();
    for number in (0..BEYOND).filter(|number| !listed.contains(number)) {
        assert_eq!(answer(number, [0; 6]), REFUSE, "{number}");
        assert_eq!(answer(number, [u64::MAX; 6]), REFUSE, "{number}");
    }
    for rule in RULES {
        let expected = match rule.answer {
            Answer::Allow([]) => libc::SECCOMP_RET_ALLOW,
            Answer::Allow(_) => continue,
            Answer::Fail(errno) => fail(errno),
        };
        assert_eq!(answer(rule.number, [7; 6]), expected, "{}", rule.name);
    }
}

fn with_sockets(families: &'static [Rule]) -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(SOCKETS).chain(families)
}

#[test]
fn grant_of_sockets_adds_at_most_fifteen_calls_each_once() {
    for families in [INTERNET_SOCKETS, UNIX_SOCKETS, ALL_SOCKETS] {
        let added: Vec<_> = SOCKETS.iter().chain(families).collect();
        let numbers: BTreeSet<_> = added.iter().map(|rule| rule.number).collect();
        assert_eq!(numbers.len(), added.len(), "a call is listed twice");
        assert!(added.len() <= MOST_OF_SOCKETS, "{} calls", added.len());
        for rule in added {
            assert!(matches!(rule.answer, Answer::Allow(_)), "{}", rule.name);
        }
        let program = assemble(with_sockets(families));
        let listed: BTreeSet<_> = with_sockets(families).map(|rule| rule.number).collect();
        for number in (0..BEYOND).filter(|number| !listed.contains(number)) {
            let answer = Question::of("test", number, [0; 6]).answer(&program);
            assert_eq!(answer, Some(REFUSE), "{number}");
        }
        for rule in with_sockets(families) {
            if let Answer::Allow([]) = rule.answer {
                let answer = Question::of("test", rule.number, [7; 6]).answer(&program);
                assert_eq!(answer, Some(libc::SECCOMP_RET_ALLOW), "{}", rule.name);
            }
        }
    }
}

#[test]
fn families_types_and_options_of_sockets_are_checked() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let families = [
        (INTERNET_SOCKETS, &[libc::AF_INET, libc::AF_INET6][..]),
        (UNIX_SOCKETS, &[libc::AF_UNIX]),
        (ALL_SOCKETS, &[libc::AF_INET, libc::AF_INET6, libc::AF_UNIX]),
    ];
    for (rules, granted) in families {
        let program = assemble(with_sockets(rules));
        let ask = |number: c_long, arguments: &[i32]| {
            let mut all = [0; 6];
            for (place, argument) in all.iter_mut().zip(arguments) {
                *place = u64::from(argument.cast_unsigned());
            }
            Question::of("test", number, all).answer(&program)
        };
        for family in 0..64 {
            for kind in 0..8 {
                for flags in [
                    0,
                    libc::SOCK_CLOEXEC,
                    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                ] {
                    for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_SCTP] {
                        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(&kind);
                        let fits = kinds && flags != 0 && protocol == 0;
                        let allowed = |yes: bool| Some(if yes { ALLOW } else { REFUSE });
                        let arguments = [family, kind | flags, protocol];
                        assert_eq!(
                            ask(libc::SYS_socket, &arguments),
                            allowed(fits && granted.contains(&family)),
                            "{arguments:?}"
                        );
                    }
                }
            }
        }
        let (socket, tcp, ipv6) = (libc::SOL_SOCKET, libc::IPPROTO_TCP, libc::IPPROTO_IPV6);
        for (level, option, get, set) in [
            (socket, libc::SO_REUSEADDR, ALLOW, ALLOW),
            (socket, libc::SO_SNDTIMEO, ALLOW, ALLOW),
            (socket, libc::SO_ERROR, ALLOW, REFUSE),
            (socket, libc::SO_DOMAIN, ALLOW, REFUSE),
            (socket, libc::SO_ATTACH_FILTER, REFUSE, REFUSE),
            (socket, libc::SO_PEERCRED, REFUSE, REFUSE),
            (socket, libc::SO_BINDTODEVICE, REFUSE, REFUSE),
            (tcp, libc::TCP_NODELAY, ALLOW, ALLOW),
            (tcp, libc::TCP_USER_TIMEOUT, ALLOW, ALLOW),
            (tcp, libc::TCP_ULP, REFUSE, REFUSE),
            (ipv6, libc::IPV6_V6ONLY, ALLOW, ALLOW),
            (ipv6, libc::IPV6_ADDRFORM, REFUSE, REFUSE),
            (libc::IPPROTO_IP, libc::IP_TOS, REFUSE, REFUSE),
            (-1, libc::SO_REUSEADDR, REFUSE, REFUSE),
        ] {
            let arguments = [3, level, option];
            let name = format!("{level} {option}");
            assert_eq!(ask(libc::SYS_getsockopt, &arguments), Some(get), "{name}");
            assert_eq!(ask(libc::SYS_setsockopt, &arguments), Some(set), "{name}");
        }
        let fchdir = if granted.contains(&libc::AF_UNIX) {
            ALLOW
        } else {
            REFUSE
        };
        assert_eq!(ask(libc::SYS_fchdir, &[3]), Some(fchdir));
        assert_eq!(
            ask(libc::SYS_sendmsg, &[3, 0, libc::MSG_NOSIGNAL]),
            Some(ALLOW)
        );
        assert_eq!(
            ask(libc::SYS_sendmsg, &[3, 0, libc::MSG_FASTOPEN]),
            Some(REFUSE)
        );
        assert_eq!(ask(libc::SYS_recvmsg, &[3, 0, libc::MSG_PEEK]), Some(ALLOW));
        assert_eq!(
            ask(libc::SYS_recvmsg, &[3, 0, libc::MSG_ERRQUEUE]),
            Some(REFUSE)
        );
    }
}

/// Besides, all that its list says of the two calls is what the list of sockets says of them.
#[test]
fn component_with_sockets_may_set_hops_and_no_further_call() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let of_sockets: BTreeSet<_> = SOCKETS.iter().map(|rule| rule.number).collect();
    assert!(HOPS.iter().all(|rule| of_sockets.contains(&rule.number)));
    let without = assemble(with_sockets(INTERNET_SOCKETS));
    let with = assemble(with_sockets(INTERNET_SOCKETS).chain(HOPS));
    let hops = [
        (libc::IPPROTO_IP, libc::IP_TTL),
        (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
    ];
    let levels = [
        libc::SOL_SOCKET,
        libc::IPPROTO_IP,
        libc::IPPROTO_TCP,
        libc::IPPROTO_IPV6,
        -1,
    ];
    for number in [libc::SYS_getsockopt, libc::SYS_setsockopt] {
        for level in levels {
            for option in 0..128 {
                let arguments = [3, level, option, 0, 0, 0];
                let arguments = arguments.map(|one: i32| u64::from(one.cast_unsigned()));
                let ask = |program| Question::of("test", number, arguments).answer(program);
                let expected = if hops.contains(&(level, option)) {
                    Some(ALLOW)
                } else {
                    ask(&without)
                };
                assert_eq!(ask(&with), expected, "{number} {level} {option}");
            }
        }
    }
}

/// With and without a grant.
#[test]
fn guest_that_makes_pairs_sends_with_them_to_no_address() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    let numbers: BTreeSet<_> = PAIRS.iter().map(|rule| rule.number).collect();
    assert_eq!(numbers.len(), PAIRS.len(), "a call is listed twice");
    let granted = || SOCKETS.iter().chain(ALL_SOCKETS);
    for (granted, program) in [
        (false, assemble(RULES.iter().chain(PAIRS))),
        (true, assemble(RULES.iter().chain(PAIRS).chain(granted()))),
    ] {
        let ask = |number: c_long, arguments: [u64; 6]| {
            Question::of("test", number, arguments).answer(&program)
        };
        for family in 0..64 {
            for kind in 0..8 {
                for flags in [
                    0,
                    libc::SOCK_CLOEXEC,
                    libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                ] {
                    for protocol in [0, libc::IPPROTO_TCP] {
                        let fits = family == libc::AF_UNIX
                            && [libc::SOCK_STREAM, libc::SOCK_DGRAM].contains(&kind)
                            && flags != 0
                            && protocol == 0;
                        let arguments = [family, kind | flags, protocol, 0, 0, 0];
                        let answer = ask(
                            libc::SYS_socketpair,
                            arguments.map(|one| u64::from(one.cast_unsigned())),
                        );
                        let expected = if fits { ALLOW } else { REFUSE };
                        assert_eq!(answer, Some(expected), "{arguments:?}");
                    }
                }
            }
        }
        for (flags, address, expected) in [
            (0, 0, ALLOW),
            (libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT, 0, ALLOW),
            (libc::MSG_FASTOPEN, 0, REFUSE),
            (0, 1, REFUSE),
            (0, 0x7f00_0000_1000, REFUSE),
            (0, 1 << 32, REFUSE),
        ] {
            let arguments = [3, 1, 8, u64::from(flags.cast_unsigned()), address, 16];
            assert_eq!(
                ask(libc::SYS_sendto, arguments),
                Some(expected),
                "{arguments:?}"
            );
        }
        for number in [libc::SYS_sendmsg, libc::SYS_accept4] {
            let expected = if granted { ALLOW } else { fail(libc::ENOTSOCK) };
            assert_eq!(ask(number, [0; 6]), Some(expected), "{number}");
        }
        for number in [libc::SYS_connect, libc::SYS_bind, libc::SYS_listen] {
            let expected = if granted { ALLOW } else { REFUSE };
            assert_eq!(ask(number, [0; 6]), Some(expected), "{number}");
        }
        for family in [libc::AF_UNIX, libc::AF_INET] {
            let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
            let arguments = [family, kind, 0, 0, 0, 0].map(|one| u64::from(one.cast_unsigned()));
            let expected = if granted { ALLOW } else { REFUSE };
            assert_eq!(ask(libc::SYS_socket, arguments), Some(expected));
        }
    }
}

#[test]
fn guest_that_handles_signals_may_make_one_call_more() {
    let rules = || RULES.iter().chain(CallGroup::Signals.rules());
    let program = assemble(rules());
    assert_eq!(SIGNALS.len(), 1);
    let listed: BTreeSet<_> = rules().map(|rule| rule.number).collect();
    assert_eq!(listed.len(), RULES.len() + 1, "it is in both lists");
    for number in 0..BEYOND {
        let answer = Question::of("test", number, [0; 6]).answer(&program);
        assert_eq!(
            answer == Some(REFUSE),
            is_refused(number, &listed),
            "{number}"
        );
    }
}

/// With zeros as arguments, where the checks of a listed call refuse some.
fn is_refused(number: c_long, listed: &BTreeSet<c_long>) -> bool {
    let with_zeros = [libc::SYS_fcntl, libc::SYS_ioctl];
    with_zeros.contains(&number) || !listed.contains(&number)
}

#[test]
fn calls_of_other_architectures_are_refused() {
    let program = assemble(RULES);
    const I386: u32 = 0x4000_0003;
    const ARM: u32 = 0x4000_0028;
    for number in 0..BEYOND {
        for architecture in [I386, ARM] {
            let question = Question::of("test", number, [0; 6]).on(architecture);
            assert_eq!(question.answer(&program), Some(REFUSE), "{number}");
        }
        let x32 = Question::of("test", number | 0x4000_0000, [0; 6]);
        assert_eq!(x32.answer(&program), Some(REFUSE), "{number}");
    }
}

#[test]
fn arguments_are_checked() {
    const READ: u64 = libc::PROT_READ as u64;
    const WRITE: u64 = libc::PROT_WRITE as u64;
    const EXEC: u64 = libc::PROT_EXEC as u64;
    let at = |argument: usize, value: u64| {
        let mut arguments = [0; 6];
        arguments[argument] = value;
        arguments
    };
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const PERM: u32 = fail(libc::EPERM);
    let kind = |kind: u32| at(2, u64::from(kind) | 0o600);
    for (number, arguments, expected) in [
        (libc::SYS_mmap, at(2, READ | WRITE), ALLOW),
        (libc::SYS_mmap, at(2, 0), ALLOW),
        (libc::SYS_mmap, at(2, READ | EXEC), REFUSE),
        (libc::SYS_mprotect, at(2, READ | WRITE), ALLOW),
        (libc::SYS_mprotect, at(2, EXEC), REFUSE),
        (libc::SYS_mprotect, at(2, READ | WRITE | EXEC), REFUSE),
        (libc::SYS_fchmod, at(1, 0o1777), ALLOW),
        (libc::SYS_fchmod, at(1, 0o4755), PERM),
        (libc::SYS_mkdirat, at(2, 0o777), ALLOW),
        (libc::SYS_mkdirat, at(2, 0o2777), PERM),
        (libc::SYS_openat, at(3, 0o666), ALLOW),
        (libc::SYS_openat, at(3, 0o4777), PERM),
        (libc::SYS_mknodat, kind(libc::S_IFIFO), ALLOW),
        (
            libc::SYS_mknodat,
            at(2, u64::from(libc::S_IFIFO) | 0o4600),
            PERM,
        ),
        (libc::SYS_mknodat, kind(libc::S_IFCHR), REFUSE),
        (libc::SYS_mknodat, kind(libc::S_IFBLK), REFUSE),
        (libc::SYS_mknodat, kind(libc::S_IFSOCK), REFUSE),
        (libc::SYS_fcntl, at(1, libc::F_GETFL as u64), ALLOW),
        (libc::SYS_fcntl, at(1, libc::F_SETOWN as u64), REFUSE),
        (libc::SYS_fcntl, at(1, libc::F_SETLEASE as u64), REFUSE),
        (libc::SYS_ioctl, at(1, libc::TIOCGWINSZ), ALLOW),
        (libc::SYS_ioctl, at(1, libc::FIONREAD), ALLOW),
        (libc::SYS_ioctl, at(1, libc::TCGETS), ALLOW),
        (libc::SYS_ioctl, at(1, libc::TCSETSF), ALLOW),
        (libc::SYS_ioctl, at(1, libc::TIOCSWINSZ), REFUSE),
        (libc::SYS_ioctl, at(1, libc::TIOCSCTTY), REFUSE),
        (libc::SYS_ioctl, at(1, libc::TIOCLINUX), REFUSE),
        (libc::SYS_ioctl, at(1, libc::TIOCSTI), REFUSE),
    ] {
        let answer = answer(number, arguments);
        assert_eq!(answer, expected, "{number} {arguments:?}");
    }
}

#[test]
fn modes_are_changed_by_a_path_with_one_call_of_two() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const PERM: u32 = fail(libc::EPERM);
    const NOFOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
    let ask = |program: &[libc::sock_filter], number, mode, flags: i32| {
        let arguments = [0, 0, mode, u64::from(flags.cast_unsigned()), 0, 0];
        Question::of("test", number, arguments).answer(program)
    };
    let program = assemble(RULES.iter().chain(MODES_BY_FCHMODAT2));
    for (mode, flags, expected) in [
        (0o644, 0, ALLOW),
        (0o1777, NOFOLLOW, ALLOW),
        (0o1777, libc::AT_EMPTY_PATH, ALLOW),
        (0o2755, 0, PERM),
        (0o4755, NOFOLLOW, PERM),
        (0o644, libc::AT_SYMLINK_FOLLOW, REFUSE),
        (0o644, NOFOLLOW | libc::AT_NO_AUTOMOUNT, REFUSE),
        (0o644, -1, REFUSE),
    ] {
        let answer = ask(&program, SYS_FCHMODAT2, mode, flags);
        assert_eq!(answer, Some(expected), "{mode:o} {flags:#x}");
    }
    let older = ask(&program, libc::SYS_fchmodat, 0o644, 0);
    assert_eq!(older, Some(REFUSE));

    let program = assemble(RULES.iter().chain(MODES_BY_FCHMODAT));
    for (mode, expected) in [(0o644, ALLOW), (0o1777, ALLOW), (0o2755, PERM)] {
        let answer = ask(&program, libc::SYS_fchmodat, mode, 0);
        assert_eq!(answer, Some(expected), "{mode:o}");
    }
    let newer = ask(&program, SYS_FCHMODAT2, 0o644, 0);
    assert_eq!(newer, Some(REFUSE));
}

/// Without a warning, and without asking the kernel, which the profile may forbid by ending the process.
#[test]
fn profile_without_fchmodat2_has_modes_changed_by_fchmodat() {
    let (fence, _) = Fence::behind(None).expect("a fence");
    assert_eq!(fence.modes_by(), ModesBy::of_kernel());
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let (fence, warnings) = behind(&json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["fchmodat2"], "action": action }],
        }))
        .expect("a fence");
        assert_eq!(fence.modes_by(), ModesBy::Fchmodat);
        assert!(warnings.is_empty(), "{warnings:?}");
    }
}

/// uretprobe(2) and uprobe(2): later kernels ask no filter about them, as they are made by probes that
/// the kernel itself has set. Without a probe the first ends the process, and the second is an error.
#[cfg(target_arch = "x86_64")]
const OF_PROBES: [c_long; 2] = [335, 336];
#[cfg(not(target_arch = "x86_64"))]
const OF_PROBES: [c_long; 0] = [];

#[test]
fn kernel_ends_a_process_at_every_call_that_is_not_listed() {
    let listed: BTreeSet<_> = RULES.iter().map(|rule| rule.number).collect();
    let program = assemble(RULES);
    let unlisted = |number: &c_long| !listed.contains(number) && !OF_PROBES.contains(number);
    for number in (0..BEYOND).filter(unlisted) {
        let ended = ended(|| {
            if load(&program, Loader::Prctl).is_err() {
                return 1;
            }
            invalid_call(number);
            0
        });
        let WaitStatus::Signaled(_, signal, _) = ended else {
            panic!("{number}: {ended:?}");
        };
        assert_eq!(signal, Signal::SIGSYS, "{number}");
    }
}

/// The C library moves a large allocation by mremap(2) where it can. In a process of its own, which is
/// this test once more.
#[test]
fn large_allocation_grows_without_mremap() {
    const CHILD: &str = "WASM_INTERP_TEST_GROWS";
    if std::env::var_os(CHILD).is_some() {
        nix::sys::prctl::set_no_new_privs().expect("no new privileges");
        load(&assemble(RULES), Loader::Prctl).expect("load");
        let mut bytes = vec![7_u8; 4 << 20];
        for _ in 0..4 {
            bytes.reserve_exact(bytes.len() + 1);
            bytes.resize(bytes.capacity(), 7);
        }
        let whole = bytes.len() > 64 << 20 && bytes.iter().all(|byte| *byte == 7);
        sys::exit_now(if whole { 42 } else { 1 })
    }
    let test = "confine::tests::large_allocation_grows_without_mremap";
    let program = std::env::current_exe().expect("this program");
    let ended = std::process::Command::new(program)
        .args(["--exact", test])
        .env(CHILD, "yes")
        .status()
        .expect("run this test");
    assert_eq!(ended.code(), Some(42), "{ended}");
}

/// How a process ends that can gain no privileges and runs `body`, which must not allocate.
fn ended(body: impl FnOnce() -> i32) -> WaitStatus {
    let pid: Pid = sys::fork(Parent::ThisProcess, || {
        if nix::sys::prctl::set_no_new_privs().is_err() {
            return 1;
        }
        body()
    })
    .expect("fork");
    waitpid(pid, None).expect("wait")
}

#[allow(unsafe_code)]
fn invalid_call(number: c_long) {
    // SAFETY: a filter ends the process at this call, as the caller expects. If not, no argument is a
    // valid pointer, descriptor or flag, and the process ends right after it.
    unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) };
}

fn behind(profile: &serde_json::Value) -> Result<(Fence, Vec<String>), String> {
    let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).expect("a profile");
    let filter = Filter::of(&profile, "test", Path::new("/"), &Default::default());
    let (filter, _) = filter.expect("a filter");
    Fence::behind(Some(&filter)).map_err(|e| e.to_string())
}

#[test]
fn profile_decides_by_which_call_the_filter_is_loaded() {
    let (fence, warnings) = Fence::behind(None).expect("a fence");
    assert_eq!(fence.loader, Loader::Seccomp);
    assert!(warnings.is_empty(), "{warnings:?}");

    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"] {
        let profile = |names: &[&str]| {
            json!({
                "defaultAction": default,
                "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }],
            })
        };
        let landlock = [
            "landlock_create_ruleset",
            "landlock_add_rule",
            "landlock_restrict_self",
        ];
        let all = [&landlock[..], &["seccomp", "prctl", "openat2"]].concat();
        let (fence, warnings) = behind(&profile(&all)).expect("a fence");
        assert_eq!(fence.loader, Loader::Seccomp);
        assert!(warnings.is_empty(), "{warnings:?}");

        let all = [&landlock[..], &["prctl", "openat2"]].concat();
        let (fence, warnings) = behind(&profile(&all)).expect("a fence");
        assert_eq!(fence.loader, Loader::Prctl);
        assert_eq!(
            warnings,
            [
                "linux.seccomp: the profile refuses seccomp; the guest's own filter is loaded by \
                 prctl"
            ]
        );

        let error = behind(&profile(&["read"])).expect_err("refused");
        for words in ["linux.seccomp", "seccomp(2) and prctl(2)", "allow it"] {
            assert!(error.contains(words), "{error}");
        }
    }
}

/// Where the kernel has Landlock, which the tests' machine need not.
#[test]
fn profile_that_refuses_landlock_is_a_warning() {
    let (fence, warnings) = behind(&json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["landlock_restrict_self"], "action": "SCMP_ACT_ERRNO" }],
    }))
    .expect("a fence");
    assert_eq!(fence.landlock, super::landlock::LandlockLevel::Absent);
    if super::landlock::LandlockLevel::of_kernel() == super::landlock::LandlockLevel::Absent {
        assert!(warnings.is_empty(), "{warnings:?}");
    } else {
        assert_eq!(
            warnings,
            [
                "linux.seccomp: the profile refuses landlock_restrict_self; the guest runs without \
                 Landlock"
            ]
        );
    }
}

/// The host functions fall back to openat(2), but only from an error.
#[test]
fn profile_without_openat2_is_a_warning_and_one_that_ends_the_process_is_refused() {
    let refusing = |action: &str| {
        behind(&json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["openat2"], "action": action }],
        }))
    };
    let (_, warnings) = refusing("SCMP_ACT_ERRNO").expect("a fence");
    let told = "linux.seccomp: the profile refuses openat2; the guest's files are opened by openat";
    assert_eq!(warnings, [told]);
    let error = refusing("SCMP_ACT_KILL_PROCESS").expect_err("refused");
    for words in ["linux.seccomp", "openat2(2)", "allow it"] {
        assert!(error.contains(words), "{error}");
    }
}
