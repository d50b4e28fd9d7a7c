//! The system calls of the filter's list: each is made by a guest, and no other.

use std::{
    collections::BTreeSet,
    io::IoSliceMut,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::net::UnixListener,
    },
    thread,
};

use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use nix::{
    cmsg_space,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use serde_json::json;
use wasm_interp_wasi::ModesBy;

use super::{REFUSED, escaped, guests, rules};
use crate::payload::call;
use wasm_interp_test_support::network::granted;

use crate::support::TestContainer;

#[test]
fn every_call_of_sockets_is_made_by_a_guest() {
    let mut container = TestContainer::of(&guests::granted_sockets());
    container.plan.network = granted("tcp:8080, udp:*, unix:/tmp/*", "unix:/tmp/*");
    let made = calls_of(container, Profile::Newest);
    let unused: Vec<_> = rules::SOCKETS
        .iter()
        .chain(rules::ALL_SOCKETS)
        .chain(rules::PAIRS)
        .filter(|rule| !made.contains(&rule.number))
        .map(|rule| rule.name)
        // No listener sees it: the runner makes the listener's handover of it. The guest has exited
        // with 0, so it was made.
        .filter(|name| *name != "SYS_sendmsg")
        .collect();
    assert!(unused.is_empty(), "no test makes these calls: {unused:?}");
}

/// Whether its streams are sockets or not: the filter answers, and the guest goes on.
#[test]
fn guest_learns_that_no_stream_of_its_own_is_a_socket() {
    let guest = TestContainer::of(&guests::sockets());
    assert_eq!(guest.run(), (0, String::new()));
    let mut guest = TestContainer::of(&guests::sockets());
    let (mine, its) = std::os::unix::net::UnixStream::pair().expect("sockets");
    guest.stdin = Some(its.into());
    assert_eq!(guest.run(), (0, String::new()));
    drop(mine);
}

/// Those of every guest, and of the guests that need more.
fn all_rules() -> impl Iterator<Item = &'static rules::Rule> {
    rules::RULES
        .iter()
        .chain(rules::MODES_BY_FCHMODAT2)
        .chain(rules::MODES_BY_FCHMODAT)
        .chain(rules::SIGNALS)
        .chain(rules::PAIRS)
}

#[test]
fn every_call_of_the_list_is_made_by_a_guest() {
    for guest in [guests::everything(), guests::timer(), guests::pairs()] {
        assert_eq!(TestContainer::of(&guest).run(), (0, String::new()));
    }
    let mut made = BTreeSet::new();
    for guest in [
        guests::everything(),
        guests::trap(),
        guests::recursion(),
        guests::hungry(),
        guests::timer(),
        guests::pairs(),
    ] {
        made.extend(calls_of(TestContainer::of(&guest), Profile::Newest));
    }
    let guest = TestContainer::of(&guests::everything());
    made.extend(calls_of(guest, Profile::Older));
    // The allocator's, which has room at the start: when it asks for more depends on its history.
    let heap = escaped(&[call(libc::SYS_brk, &[0.into()])]);
    made.extend(calls_of(heap, Profile::Newest));
    let unused: Vec<_> = all_rules()
        .filter(|rule| matches!(rule.answer, rules::Answer::Allow(_)))
        .filter(|rule| !made.contains(&rule.number))
        .map(|rule| rule.name)
        // Linux has it since 6.6, and this machine may run an older one.
        .filter(|name| *name != "SYS_fchmodat2" || ModesBy::of_kernel() == ModesBy::Fchmodat2)
        .collect();
    assert!(unused.is_empty(), "no test makes these calls: {unused:?}");
}

/// Its handlers and timers are there already; without them its process has no use for the call.
#[test]
fn calls_of_a_guest_that_handles_signals_are_refused_to_others() {
    let mut container = escaped(&[call(libc::SYS_timer_settime, &[0.into(), 0.into()])]);
    container.create().expect("create");
    container.start().expect("start");
    assert_eq!(container.wait(), REFUSED);
}

/// Whether the pod's profile knows openat2(2) and fchmodat2(2). If not, a guest uses openat(2) and
/// fchmodat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Newest,
    Older,
}

/// The calls of the list that a guest's process makes behind its filter.
///
/// The pod's profile asks a listener about each of them, and this one lets all of them through.
fn calls_of(mut container: TestContainer, profile: Profile) -> BTreeSet<i64> {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("listener");
    let listener = UnixListener::bind(&path).expect("bind");
    // Of these two the runner makes the handover of the listener's own descriptor.
    let all = all_rules().chain(rules::SOCKETS).chain(rules::ALL_SOCKETS);
    let names: BTreeSet<_> = all.map(|rule| &rule.name["SYS_".len()..]).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !["write", "sendmsg"].contains(name))
        .filter(|name| profile == Profile::Newest || *name != "fchmodat2")
        .chain(["seccomp"])
        .collect();
    container.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
    });
    if profile == Profile::Older {
        let older = json!({ "names": ["fchmodat2"], "action": "SCMP_ACT_ERRNO" });
        let rules = container.spec["linux"]["seccomp"]["syscalls"].as_array_mut();
        rules.expect("a list").push(older);
    }
    let watcher = thread::spawn(move || watch(&listener, profile));
    container.create().expect("create");
    container.start().expect("start");
    container.wait();
    let mut made = watcher.join().expect("the listener");
    if !container.output().is_empty() {
        made.insert(libc::SYS_write);
    }
    made
}

fn watch(listener: &UnixListener, profile: Profile) -> BTreeSet<i64> {
    let (connection, _) = listener.accept().expect("accept");
    let mut text = vec![0; 65536];
    let mut control = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(
        connection.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        flags,
    );
    let message = message.expect("receive");
    let notifications = message
        .cmsgs()
        .expect("control messages")
        .find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        })
        .expect("a descriptor");
    let notifications = owned(notifications);
    let mut made = BTreeSet::new();
    loop {
        let mut fds = [PollFd::new(notifications.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE).expect("poll");
        // No process has the filter any more.
        if fds[0]
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLHUP))
        {
            return made;
        }
        let Ok(request) = ScmpNotifReq::receive(notifications.as_raw_fd()) else {
            continue;
        };
        let number = i64::from(request.data.syscall.as_raw_syscall());
        if number == libc::SYS_seccomp {
            made.clear();
        } else {
            made.insert(number);
        }
        let flags = ScmpNotifRespFlags::empty();
        let answer = if number == libc::SYS_openat2 && profile == Profile::Older {
            ScmpNotifResp::new_error(request.id, -libc::EPERM, flags)
        } else {
            ScmpNotifResp::new_continue(request.id, flags)
        };
        // A signal may have ended the call meanwhile (ENOENT); it is then made again, and asked about again.
        let _ = answer.respond(notifications.as_raw_fd());
    }
}

#[allow(unsafe_code)]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for the message, and nothing else closes it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
