//! The first line of a script: what execve(2) and `env -S` make of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wasm_interp_fuzz::planted;
use wasm_interp_workload::fuzzing::{first_line, shebang};

#[derive(Debug, arbitrary::Arbitrary)]
enum Input<'a> {
    /// A whole file.
    File(&'a [u8]),
    /// Words that `env -S` is given, each quoted in one of its ways.
    Split(Vec<(Quoting, &'a str)>),
}

#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
enum Quoting {
    Single,
    Double,
    Backslash,
}

fn quoted(quoting: Quoting, word: &str) -> String {
    let special = |c: char| matches!(c, '"' | '\\' | '$' | '\'' | ' ' | '\t' | '\n' | '\r');
    match quoting {
        Quoting::Single => format!("'{word}'"),
        Quoting::Double => {
            let escaped = word
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('$', "\\$");
            format!("\"{escaped}\"")
        }
        Quoting::Backslash => word
            .chars()
            .map(|c| {
                if special(c) {
                    format!("\\{c}")
                } else {
                    c.to_string()
                }
            })
            .collect(),
    }
}

fn file(bytes: &[u8]) {
    let Some(line) = first_line(bytes).expect("memory is read") else {
        return;
    };
    assert!(
        bytes.starts_with(b"#!") && !line.contains(['\0', '\n']),
        "{line:?}"
    );
    let parts = shebang(&line);
    assert_eq!(parts, shebang(&line));
    match parts {
        Ok(parts) => {
            assert!(!parts.interpreter.is_empty());
            assert!(parts.env.iter().all(|(name, _)| !name.contains('=')));
            // Nothing of the line is invented.
            for word in parts.args.iter().chain([&parts.interpreter]) {
                assert!(word.len() <= line.len());
            }
            planted(parts.env.len() == 1 && parts.args.len() == 1);
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

fn split(words: &[(Quoting, &str)]) {
    let mut expected = Vec::new();
    let mut line = "/usr/bin/env -S python".to_owned();
    for (quoting, word) in words {
        // What no first line holds, and what a way of quoting cannot say.
        let impossible = match quoting {
            Quoting::Single => word.contains('\''),
            Quoting::Double => false,
            // The kernel takes blanks off the line's end.
            Quoting::Backslash => word.is_empty() || word.ends_with([' ', '\t']),
        };
        if impossible || word.contains(['\0', '\n']) {
            continue;
        }
        line = format!("{line} {}", quoted(*quoting, word));
        expected.push((*word).to_owned());
    }
    let parts = shebang(&line).expect("it is quoted");
    assert_eq!(parts.interpreter, "python");
    assert_eq!(parts.args, expected, "{line:?}");
}

fuzz_target!(|input: Input<'_>| match input {
    Input::File(bytes) => file(bytes),
    Input::Split(words) => split(&words),
});
