//! The host functions of a guest, with any numbers, pointers, paths and descriptors, in any order.
#![no_main]

use std::fs;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::host::{
    FUNCTIONS, MEMORY, call, guest, in_guarded_memory, put, root_as_streams,
};
use wasm_interp_fuzz::{contained, planted};
use wasm_interp_wasi::LateMounts;

/// Where things lie in the guest's memory.
const TEXTS: usize = 0x100;
const VECTORS: u32 = 0x800;
const SUBSCRIPTIONS: u32 = 0x900;
const RESULTS: u32 = 0xa00;
const DATA: u32 = 0x1000;

const PATHS: &[&str] = &[
    "",
    ".",
    "..",
    "a",
    "a/b",
    "a/../..",
    "file",
    "file/",
    "link",
    "absolute",
    "loop",
    "../../outside/secret",
    "/file",
    "new",
    "a/new",
    "z\0z",
];

#[derive(Debug)]
struct Input {
    checked: bool,
    /// Bytes of the memory that are set first.
    patches: Vec<(u16, u32)>,
    calls: Vec<Call>,
}

#[derive(Debug)]
struct Call {
    function: &'static str,
    arguments: [u64; 9],
}

/// Arguments of the kinds that a function has, and now and then anything else.
fn arguments(input: &mut Unstructured<'_>, shape: &str) -> Result<[u64; 9]> {
    let mut values = Vec::new();
    for kind in shape.chars() {
        if input.ratio(1, 12)? {
            values.push(match input.int_in_range(0..=2)? {
                0 => input.arbitrary()?,
                1 => input.int_in_range(0..=MEMORY as u64)?,
                _ => !u64::from(input.arbitrary::<u8>()?),
            });
            continue;
        }
        match kind {
            // The first four are the root directory.
            'f' => values.push(input.int_in_range(0..=7)?),
            's' => values.push(input.int_in_range(0..=16)?),
            'p' => {
                let n = input.choose_index(PATHS.len())?;
                values.push((TEXTS + 32 * n) as u64);
                values.push(PATHS[n].len() as u64);
            }
            'v' => {
                values.push(u64::from(VECTORS));
                values.push(input.int_in_range(0..=4)?);
            }
            'd' => {
                values.push(u64::from(DATA));
                values.push(input.int_in_range(0..=8192)?);
            }
            'r' => values.push(u64::from(RESULTS) + 8 * input.int_in_range(0..=16)?),
            'o' => values.push(input.int_in_range(0..=10_000)?),
            'R' => values.push(*input.choose(&[0x2, 0x40, 0x42, 0x4002, u64::MAX])?),
            _ => values.push(u64::from(SUBSCRIPTIONS)),
        }
    }
    values.resize(9, 0);
    Ok(values.try_into().expect("nine"))
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let patches = input.int_in_range(0..=3)?;
        let calls = input.int_in_range(1..=24)?;
        Ok(Self {
            checked: input.arbitrary()?,
            patches: (0..patches)
                .map(|_| input.arbitrary())
                .collect::<Result<_>>()?,
            calls: (0..calls)
                .map(|_| {
                    let (function, shape) = *input.choose(FUNCTIONS)?;
                    let arguments = arguments(input, shape)?;
                    Ok(Call {
                        function,
                        arguments,
                    })
                })
                .collect::<Result<_>>()?,
        })
    }
}

fn fill(memory: &mut [u8], input: &Input) {
    for (n, path) in PATHS.iter().enumerate() {
        put(memory, TEXTS + 32 * n, path.as_bytes());
    }
    for n in 0..4u32 {
        let vector = [(DATA + 64 * n).to_le_bytes(), (50 * n).to_le_bytes()].concat();
        put(memory, (VECTORS + 8 * n) as usize, &vector);
    }
    for (at, word) in &input.patches {
        put(memory, usize::from(*at), &word.to_le_bytes());
    }
}

/// Whether a poll would wait for longer than a moment. Its subscriptions have 48 bytes, of which the
/// ninth says whether it is about a clock, and the eight from 24 on for how long.
fn waits(memory: &[u8], arguments: &[u64; 9]) -> bool {
    const MOMENT: u64 = 100_000;
    let (start, count) = (arguments[0] as u32 as usize, arguments[2] as u32 as usize);
    let Some(all) = memory.get(start..start.saturating_add(count.saturating_mul(48))) else {
        return false;
    };
    all.chunks(48).all(|one| {
        let time = u64::from_le_bytes(one[24..32].try_into().expect("eight bytes"));
        one[8] != 0 || time > MOMENT
    })
}

/// Calls the functions; returns which succeeded.
fn calls(input: &Input, memory: &mut [u8]) -> Vec<&'static str> {
    fill(memory, input);
    let late_mounts = if input.checked {
        LateMounts::Checked(|_| false)
    } else {
        LateMounts::Impossible
    };
    let mut guest = guest(late_mounts);
    root_as_streams(&mut guest);
    let mut succeeded = Vec::new();
    for one in &input.calls {
        if one.function == "poll_oneoff" && waits(memory, &one.arguments) {
            continue;
        }
        if call(&mut guest, memory, one.function, &one.arguments) == 0 {
            succeeded.push(one.function);
        }
    }
    succeeded
}

fuzz_target!(|input: Input| {
    contained::reset_with_files();
    let succeeded = contained::run(|| in_guarded_memory(|memory| calls(&input, memory)));
    let outside = fs::read_dir(contained::outside()).expect("a directory");
    assert_eq!(outside.count(), 1, "a file was made outside");
    let has = |name| succeeded.contains(&name);
    planted(has("path_open") && has("fd_readdir"));
});
