//! What is no file: random bytes, clocks, polls, arguments, rights.

use super::{
    super::{guest::GuestSide, kernel::ROOT, operation::Operation, outcome::Outcome},
    asking::{answers, errno, file},
};

pub(super) fn random_bytes(guest: &mut GuestSide) {
    const PLACE: u32 = 0x1_0000;
    let length = 1 << 20;
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), length.into()]),
        0
    );
    let bytes = guest.memory(PLACE, length);
    assert!(
        bytes
            .chunks(4096)
            .all(|part| part.iter().any(|&byte| byte != 0))
    );
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), 0_u32.into()]),
        0
    );
    assert_eq!(
        guest.call_raw("random_get", &[PLACE.into(), u32::MAX.into()]),
        errno::FAULT
    );
}

pub(super) fn clocks(guest: &mut GuestSide) {
    const RESULT: u32 = 64;
    let time = |guest: &mut GuestSide, clock: u32| {
        let all = [clock.into(), 1_u64.into(), RESULT.into()];
        assert_eq!(guest.call_raw("clock_time_get", &all), 0);
        guest.memory_u64(RESULT)
    };
    for clock in [0, 1] {
        let before = time(guest, clock);
        assert!(before > 0 && time(guest, clock) >= before);
        assert_eq!(
            guest.call_raw("clock_res_get", &[clock.into(), RESULT.into()]),
            0
        );
        assert!((1..1_000_000_000).contains(&guest.memory_u64(RESULT)));
    }
    let unknown = [100_u32.into(), RESULT.into()];
    assert_eq!(guest.call_raw("clock_res_get", &unknown), errno::INVAL);
}

pub(super) fn poll(guest: &mut GuestSide) {
    const SUBSCRIPTION: u32 = 64;
    const EVENT: u32 = 128;
    const COUNT: u32 = 192;
    let fd = file(guest, "file", &[9]);
    let poll = |guest: &mut GuestSide, count: u32| {
        let all = [
            SUBSCRIPTION.into(),
            EVENT.into(),
            count.into(),
            COUNT.into(),
        ];
        guest.call_raw("poll_oneoff", &all)
    };
    assert_eq!(poll(guest, 0), errno::INVAL);
    // Userdata, then a kind: 0 is a clock, 1 is reading, 2 is writing.
    let subscription = |kind: u8, fields: &[u8]| {
        let mut bytes = vec![0; 48];
        bytes[0] = 42;
        bytes[8] = kind;
        bytes[16..16 + fields.len()].copy_from_slice(fields);
        bytes
    };
    for (kind, number) in [(1, fd), (2, fd), (1, 1000)] {
        guest.fill(SUBSCRIPTION, &subscription(kind, &number.to_le_bytes()));
        assert_eq!(poll(guest, 1), 0);
        assert_eq!(guest.memory(COUNT, 4), [1, 0, 0, 0]);
        let event = guest.memory(EVENT, 32);
        let error = u16::from_le_bytes([event[8], event[9]]);
        assert_eq!(event[0], 42);
        assert_eq!(event[10], kind);
        assert_eq!(error, if number == fd { 0 } else { errno::BADF });
    }
    // The monotonic clock, a microsecond from now.
    let clock = [&1_u64.to_le_bytes()[..], &1000_u64.to_le_bytes()].concat();
    guest.fill(SUBSCRIPTION, &subscription(0, &clock));
    assert_eq!(poll(guest, 1), 0);
    assert_eq!(guest.memory(EVENT, 11)[8..], [0, 0, 0]);
}

pub(super) fn yield_processor(guest: &mut GuestSide) {
    assert_eq!(guest.call_raw("sched_yield", &[]), 0);
}

pub(super) fn shutdown_of_no_socket(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[]);
    for (fd, expected) in [
        (fd, errno::NOTSOCK),
        (ROOT, errno::NOTSOCK),
        (1000, errno::BADF),
    ] {
        let answer = guest.call_raw("sock_shutdown", &[fd.into(), 1_u32.into()]);
        // A descriptor that is only a name has no operations at all.
        let expected = if fd == ROOT { errno::BADF } else { expected };
        assert_eq!(answer, expected, "{fd}");
    }
}

pub(super) fn arguments(guest: &mut GuestSide) {
    for function in ["args", "environ"] {
        let sizes = [64_u32.into(), 68_u32.into()];
        assert_eq!(guest.call_raw(&format!("{function}_sizes_get"), &sizes), 0);
        assert_eq!(guest.memory(64, 8), [0; 8]);
        let lists = [128_u32.into(), 256_u32.into()];
        assert_eq!(guest.call_raw(&format!("{function}_get"), &lists), 0);
    }
}

pub(super) fn rights_are_not_kept(guest: &mut GuestSide) {
    let fd = file(guest, "file", &[3]);
    let none = [fd.into(), 0_u64.into(), 0_u64.into()];
    guest.call_raw("fd_fdstat_set_rights", &none);
    let write = Operation::Write {
        fd,
        sizes: vec![1],
        fill: 0,
    };
    answers(guest, &write, &Outcome::Number(1));
}
