//! What a file is by its first bytes, whatever its name says.

use std::io::{self, Read, Seek};

/// Longest `#!` line that is followed. Linux reads 256 bytes; a little more costs nothing.
const MAX_SHEBANG: usize = 1024;

/// Wasmtime's own `e_ident[EI_OSABI]`, in every file that it precompiles.
const ELFOSABI_WASMTIME: u8 = 200;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// A core Wasm module.
    Module,
    /// A Wasm component.
    Component,
    /// Native code that Wasmtime compiled.
    Precompiled,
    /// An ELF program.
    Native,
    /// A script; its first line without `#!`.
    Script(String),
    /// A script whose first line cannot be followed.
    BadScript(BadShebang),
    /// Nothing of these.
    Other,
}

/// Why a `#!` line cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadShebang {
    TooLong,
    NotText,
}

impl BadShebang {
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::TooLong => "it is longer than 1024 bytes; shorten it",
            Self::NotText => "it is not text; write it in UTF-8",
        }
    }
}

/// Reads what `file` is and puts it back to its start.
pub(crate) fn read<F: Read + Seek>(file: &mut F) -> io::Result<Head> {
    let mut head = Vec::with_capacity(MAX_SHEBANG);
    file.take(MAX_SHEBANG as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(identify(&head))
}

fn identify(head: &[u8]) -> Head {
    match head {
        // Core modules carry version 1 in 32 bits; components version 13 and layer 1 in 16 each.
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Head::Module,
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Head::Component,
        [0x7f, b'E', b'L', b'F', _, _, _, ELFOSABI_WASMTIME, ..] => Head::Precompiled,
        [0x7f, b'E', b'L', b'F', ..] => Head::Native,
        [b'#', b'!', rest @ ..] => shebang(rest, head.len() < MAX_SHEBANG),
        _ => Head::Other,
    }
}

fn shebang(rest: &[u8], whole_file: bool) -> Head {
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => &rest[..end],
        None if whole_file => rest,
        None => return Head::BadScript(BadShebang::TooLong),
    };
    match str::from_utf8(line) {
        // Editors of other systems end lines with a carriage return, which no name ends with.
        Ok(text) if !text.contains('\0') => Head::Script(text.trim().to_owned()),
        _ => Head::BadScript(BadShebang::NotText),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn files_are_told_by_their_bytes() {
        let long = [b"#!".as_slice(), &[b'x'; 4096]].concat();
        for (bytes, head) in [
            (&b"\0asm\x01\0\0\0"[..], Head::Module),
            (b"\0asm\x0d\0\x01\0", Head::Component),
            (b"\0asm", Head::Other),
            (b"\x7fELF\x02\x01\x01\x00rest", Head::Native),
            (b"\x7fELF\x02\x01\x01\xc8rest", Head::Precompiled),
            (b"#! /bin/sh -e \r\necho", Head::Script("/bin/sh -e".into())),
            (b"#!/bin/sh", Head::Script("/bin/sh".into())),
            (b"#!", Head::Script(String::new())),
            (b"#!\xff\n", Head::BadScript(BadShebang::NotText)),
            (b"#!/bin\0/sh\n", Head::BadScript(BadShebang::NotText)),
            (&long, Head::BadScript(BadShebang::TooLong)),
            (b"print(1)", Head::Other),
            (b"", Head::Other),
        ] {
            let mut file = Cursor::new(bytes);
            assert_eq!(read(&mut file).unwrap(), head);
            assert_eq!(file.position(), 0, "the file is handed on from its start");
        }
    }
}
