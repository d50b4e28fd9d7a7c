//! The host functions of a component, with the handles that it has, any paths, numbers and addresses, in any order,
//! and with handles dropped in any order. What the guest's grants do not name is never reached, no path leads out or
//! to a file system that it must not have, no descriptor is left open, and nothing traps but a guest that breaks an interface's contract.
#![no_main]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Once;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::pipe::fcntl_setpipe_size;
use rustix::stdio::{dup2_stdin, dup2_stdout};
use wasm_interp_fuzz::component::{Call, Component, Manners};
use wasm_interp_fuzz::hosts::{self, GRANTS, network, reached_as_granted, resolver_files};
use wasm_interp_fuzz::{contained, planted};
use wasm_interp_wasi::LateMounts;

#[derive(Debug)]
struct Input {
    grants: usize,
    checked: bool,
    manners: Manners,
    calls: Vec<Call>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let (grants, count) = (
            input.choose_index(GRANTS.len())?,
            input.int_in_range(1..=24)?,
        );
        Ok(Self {
            grants,
            checked: input.arbitrary()?,
            manners: Manners {
                rude: input.ratio(1, 8)?,
                drops: input.arbitrary()?,
            },
            calls: (0..count)
                .map(|_| input.arbitrary())
                .collect::<Result<_>>()?,
        })
    }
}

/// The guest's standard streams are this process's. libFuzzer writes to none but standard error, which no call
/// gets.
fn empty_streams() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.expect("/dev/null");
        dup2_stdin(&null).expect("standard input");
        dup2_stdout(&null).expect("standard output");
    });
}

/// A pipe among the guest's files, open at both ends, that holds more than a guest can write.
fn pipe() -> File {
    const ROOM: usize = 1 << 20;
    let path = contained::files().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe");
    let flags = OFlags::NONBLOCK.bits() as i32;
    let pipe = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)
        .expect("a pipe");
    fcntl_setpipe_size(&pipe, ROOM).expect("room");
    pipe
}

fuzz_target!(|input: Input| {
    empty_streams();
    hosts::make();
    hosts::keep_little();
    contained::reset_with_files();
    resolver_files();
    contained::reset_kernel(input.checked);
    let pipe = pipe();
    let (late_mounts, kernel) = if input.checked {
        let late_mounts = LateMounts::Checked(contained::is_refused);
        (late_mounts, Some(contained::kernel_state()))
    } else {
        (LateMounts::Impossible, None)
    };
    let (granted, calls) = (network(input.grants), &input.calls);
    let deep = contained::run(|| {
        let deep = Component::run(late_mounts, granted, calls, input.manners);
        hosts::let_go();
        deep
    });
    drop(pipe);
    let outside = fs::read_dir(contained::outside()).expect("a directory");
    assert_eq!(outside.count(), 1, "a file was made outside");
    if let Some(kernel) = kernel {
        let now = contained::kernel_state();
        assert_eq!(now, kernel, "what a guest must not have was changed");
    }
    reached_as_granted(input.grants);
    planted(deep);
});
