//! Waiting for files and clocks.

use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use wasm_interp_wasi::{
    abi::types::{self, Eventtype},
    errno::{Errno, Result},
};

use crate::support::{BUFFER, Caller, OUT, Opening, with_guest};

/// What to wait for.
#[derive(Clone, Copy)]
enum Wait {
    Clock {
        id: u32,
        timeout: u64,
        absolute: bool,
    },
    Read(u32),
    Write(u32),
}

#[derive(Debug, PartialEq)]
struct Happened {
    userdata: u64,
    error: Errno,
    kind: Eventtype,
    bytes: u64,
    hangup: bool,
}

fn poll(guest: &mut Caller, list: &[Wait]) -> Result<Vec<Happened>> {
    let mut bytes = Vec::new();
    for (index, wait) in list.iter().enumerate() {
        let mut one = [0u8; 48];
        one[..8].copy_from_slice(&(100 + index as u64).to_le_bytes());
        match *wait {
            Wait::Clock {
                id,
                timeout,
                absolute,
            } => {
                one[8] = 0;
                one[16..20].copy_from_slice(&id.to_le_bytes());
                one[24..32].copy_from_slice(&timeout.to_le_bytes());
                one[40] = u8::from(absolute);
            }
            Wait::Read(fd) => {
                one[8] = 1;
                one[16..20].copy_from_slice(&fd.to_le_bytes());
            }
            Wait::Write(fd) => {
                one[8] = 2;
                one[16..20].copy_from_slice(&fd.to_le_bytes());
            }
        }
        bytes.extend(one);
    }
    let [subscriptions, _] = guest.put(bytes);
    let count = list.len() as u64;
    guest.call(
        "poll_oneoff",
        &[subscriptions, BUFFER.into(), count, OUT.into()],
    )?;
    Ok((0..guest.u32(OUT))
        .map(|index| {
            let at = BUFFER + index * 32;
            Happened {
                userdata: guest.u64(at),
                error: guest.u16(at + 8).try_into().expect("an errno"),
                kind: guest.u8(at + 10).try_into().expect("a type"),
                bytes: guest.u64(at + 16),
                hangup: guest.u16(at + 24) & 1 != 0,
            }
        })
        .collect())
}

const MILLISECOND: u64 = 1_000_000;

fn sleep(timeout: u64) -> Wait {
    Wait::Clock {
        id: 1,
        timeout,
        absolute: false,
    }
}

#[test]
fn a_time_out_is_never_early() {
    with_guest(|guest| {
        for timeout in [0, 1, 999, MILLISECOND, 20 * MILLISECOND] {
            let began = Instant::now();
            let happened = poll(guest, &[sleep(timeout)]).expect("poll");
            assert!(began.elapsed() >= Duration::from_nanos(timeout));
            assert_eq!(happened.len(), 1);
            assert_eq!(
                (happened[0].userdata, happened[0].kind),
                (100, Eventtype::Clock)
            );
        }
    });
}

#[test]
fn absolute_times_are_of_their_clock() {
    with_guest(|guest| {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
        let until = now + Duration::from_millis(20);
        let timeout = u64::try_from(until.as_nanos()).expect("before 2554");
        poll(
            guest,
            &[Wait::Clock {
                id: 0,
                timeout,
                absolute: true,
            }],
        )
        .expect("poll");
        assert!(SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") >= until);
        // Long past, and never: the first to come ends the wait.
        let happened = poll(
            guest,
            &[
                Wait::Clock {
                    id: 1,
                    timeout: 1,
                    absolute: true,
                },
                Wait::Clock {
                    id: 1,
                    timeout: u64::MAX,
                    absolute: true,
                },
                sleep(u64::MAX),
            ],
        );
        assert_eq!(happened.expect("poll").len(), 1);
        for id in [2, 3] {
            let answer = poll(
                guest,
                &[Wait::Clock {
                    id,
                    timeout: 1,
                    absolute: false,
                }],
            );
            assert_eq!(
                answer,
                Err(Errno::Notsup),
                "a clock that stands still meanwhile"
            );
        }
    });
}

fn fifo(guest: &mut Caller) -> u32 {
    mknodat(CWD, "/fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    let mut both = Opening::read("fifo");
    both.rights |= types::Rights::FD_WRITE;
    guest.open(&both).expect("open")
}

#[test]
fn files_and_clocks_are_waited_for_together() {
    with_guest(|guest| {
        let fd = fifo(guest);
        let empty = poll(guest, &[Wait::Read(fd), sleep(MILLISECOND)]).expect("poll");
        assert_eq!(
            empty.iter().map(|one| one.userdata).collect::<Vec<_>>(),
            [101]
        );
        guest.put_out(fd, b"12345").expect("write");
        let list = [Wait::Read(fd), sleep(u64::MAX), Wait::Write(fd)];
        let ready = poll(guest, &list).expect("poll");
        assert_eq!(ready.len(), 2);
        assert_eq!((ready[0].userdata, ready[0].bytes), (100, 5));
        assert_eq!(ready[0].kind, Eventtype::FdRead);
        assert_eq!(
            (ready[1].userdata, ready[1].kind),
            (102, Eventtype::FdWrite)
        );
        assert!(!ready[0].hangup);
    });
}

/// The kernel takes no longer list than the limit of open files, which the tests set to 4,096.
#[test]
fn one_file_may_be_waited_for_more_often_than_files_may_be_open() {
    const TIMES: usize = 5000;
    with_guest(|guest| {
        let fd = fifo(guest);
        let mut list = vec![Wait::Read(fd); TIMES];
        list[TIMES / 2] = Wait::Write(fd);
        let ready = poll(guest, &list).expect("poll");
        let half = 100 + TIMES as u64 / 2;
        assert_eq!((ready.len(), ready[0].userdata), (1, half));
        guest.put_out(fd, b"12345").expect("write");
        let ready = poll(guest, &list).expect("poll");
        assert_eq!(ready.len(), TIMES);
        assert!(ready.iter().all(|one| one.error == Errno::Success));
    });
}

#[test]
fn the_other_side_of_a_fifo_wakes_the_guest() {
    with_guest(|guest| {
        mknodat(CWD, "/fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
        let mut open = Opening::read("fifo");
        open.fdflags = types::Fdflags::NONBLOCK;
        let fd = guest.open(&open).expect("open");
        // Closed by an exec: another test may start a program meanwhile.
        let directory = OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open("/", directory, Mode::empty()).expect("/");
        let writer = std::thread::spawn(move || {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let fifo = rustix::fs::openat(&root, "fifo", flags, Mode::empty());
            std::thread::sleep(Duration::from_millis(20));
            rustix::io::write(fifo.expect("open"), b"x").expect("write");
        });
        let ready = poll(guest, &[Wait::Read(fd)]).expect("poll");
        assert_eq!((ready.len(), ready[0].bytes), (1, 1));
        assert_eq!(guest.read(fd, 1).expect("read"), b"x");
        writer.join().expect("the writer");
        let gone = poll(guest, &[Wait::Read(fd)]).expect("poll");
        assert!(gone[0].hangup && gone[0].bytes == 0);
    });
}

#[test]
fn files_are_always_ready_and_wrong_numbers_fail_alone() {
    with_guest(|guest| {
        let fd = guest.create("f");
        guest.put_out(fd, b"abc").expect("write");
        let reader = guest.open(&Opening::read("f")).expect("open");
        let list = [
            Wait::Read(reader),
            Wait::Write(fd),
            Wait::Read(88),
            sleep(u64::MAX),
        ];
        let ready = poll(guest, &list).expect("poll");
        assert_eq!(ready.len(), 3);
        assert_eq!((ready[0].bytes, ready[0].error), (3, Errno::Success));
        assert_eq!((ready[2].userdata, ready[2].error), (102, Errno::Badf));
        assert_eq!(ready[2].kind, Eventtype::FdRead);
    });
}
