//! Signals and terminals, as far as they concern a process that handles none and has none: the rest
//! needs a process of its own, and is with the runner's tests.

use wasm_interp_wasi::errno::Errno;

use crate::support::{BUFFER, OUT, ROOT, with_guest};

#[test]
fn process_that_handles_no_signals_says_so() {
    with_guest(|guest| {
        let (pending, mask) = (u64::from(OUT), u64::from(OUT) + 4);
        let register = guest.call("signal_register", &[pending, mask]);
        assert_eq!(register, Err(Errno::Nosys));
        assert_eq!(guest.call("signal_action", &[15, 2]), Err(Errno::Perm));
        let timer = guest.call("setitimer", &[0, 1_000_000_000, OUT.into()]);
        assert_eq!(timer, Err(Errno::Nosys));
        guest
            .call("signal_take", &[u64::from(u32::MAX), OUT.into()])
            .expect("none");
        assert_eq!(guest.u32(OUT), 0);
        guest.call("getitimer", &[BUFFER.into()]).expect("a timer");
        assert_eq!((guest.u64(BUFFER), guest.u64(BUFFER + 8)), (0, 0));
    });
}

#[test]
fn numbers_that_are_no_signals_are_einval() {
    with_guest(|guest| {
        for number in [0, 32, 64, 255] {
            assert_eq!(guest.call("raise", &[number]), Err(Errno::Inval));
            assert_eq!(guest.call("signal_action", &[number, 0]), Err(Errno::Inval));
        }
        // KILL cannot be caught, and a disposition is one of three.
        assert_eq!(guest.call("signal_action", &[9, 2]), Err(Errno::Inval));
        assert_eq!(guest.call("signal_action", &[15, 3]), Err(Errno::Inval));
        // What is ignored, or a matter of the container's runtime.
        for number in [13, 17, 18, 23, 28] {
            guest.call("raise", &[number]).expect("ignored");
        }
        for number in [19, 20, 21, 22] {
            assert_eq!(guest.call("raise", &[number]), Err(Errno::Notsup));
        }
    });
}

#[test]
fn waiting_for_a_signal_ends_with_its_time() {
    with_guest(|guest| {
        for nanoseconds in [0, 1_000_000] {
            let answer = guest.call("sigtimedwait", &[0x4000, nanoseconds, OUT.into()]);
            assert_eq!(answer, Err(Errno::Again));
        }
    });
}

#[test]
fn what_is_no_terminal_is_enotty() {
    with_guest(|guest| {
        let file = u64::from(guest.create("f"));
        let buffer = u64::from(BUFFER);
        for fd in [file, ROOT.into()] {
            for (name, arguments) in [
                ("tcgetwinsize", vec![fd, buffer]),
                ("tcgetattr", vec![fd, buffer]),
                ("tcsetattr", vec![fd, 0, buffer]),
            ] {
                assert_eq!(guest.call(name, &arguments), Err(Errno::Notty), "{name}");
            }
        }
        let closed = guest.call("tcgetattr", &[99, buffer]);
        assert_eq!(closed, Err(Errno::Badf));
    });
}
