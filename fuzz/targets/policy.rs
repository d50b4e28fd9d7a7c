//! The node's policy file, and the grammar of sizes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::{described, planted, scratch};
use wasm_interp_policy::{Policy, parse_size};

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    File(&'a [u8]),
    Size {
        number: u64,
        zeros: u8,
        unit: u8,
        upper: bool,
    },
    Text(&'a str),
}

const UNITS: &[(&str, u32)] = &[
    ("", 0),
    ("b", 0),
    ("k", 10),
    ("kb", 10),
    ("ki", 10),
    ("kib", 10),
    ("m", 20),
    ("mib", 20),
    ("g", 30),
    ("gi", 30),
    ("t", 40),
    ("tib", 40),
];

fn file(bytes: &[u8]) {
    let path = scratch::directory().join("policy.json");
    let load = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a file");
        Policy::load(&path)
    };
    let loaded = load(bytes);
    assert_eq!(
        described(&loaded),
        described(&load(bytes)),
        "equal files give equal policies"
    );
    let Ok(policy) = loaded else { return };
    let written = serde_json::to_vec(&policy).expect("a policy is written");
    assert_eq!(
        load(&written).ok(),
        Some(policy.clone()),
        "a written policy is read"
    );
    // What the documentation says.
    assert!((512 << 10..=1 << 30).contains(&policy.stack_bytes));
    assert!(policy.memory.headroom_percent <= 50);
    assert!(
        policy.tmp_bytes >= 1 << 20 && policy.memory.max_bytes.is_none_or(|most| most >= 1 << 20)
    );
    planted(policy.tmp_bytes % 1024 != 0);
}

fn size(number: u64, zeros: u8, (unit, shift): (&str, u32)) {
    let text = format!("{}{number}{unit}", "0".repeat(usize::from(zeros % 32)));
    let expected = number.checked_mul(1 << shift);
    assert_eq!(parse_size(&text).ok(), expected, "{text}");
}

fuzz_target!(|input: Input<'_>| match input {
    Input::File(bytes) => file(bytes),
    Input::Size {
        number,
        zeros,
        unit,
        upper,
    } => {
        let (unit, shift) = UNITS[usize::from(unit) % UNITS.len()];
        let unit = if upper {
            unit.to_uppercase()
        } else {
            unit.to_owned()
        };
        size(number, zeros, (&unit, shift));
    }
    Input::Text(text) => {
        if parse_size(text).is_ok() {
            assert!(
                text.starts_with(|first: char| first.is_ascii_digit()) && text.is_ascii(),
                "{text:?}"
            );
        }
    }
});
