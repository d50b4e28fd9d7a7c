//! Recognizes the format of a file by its first bytes. The file's name does not count.

use std::io::{self, Read, Seek};

use crate::plan::GuestKind;

/// The longest `#!` line that is accepted, in bytes. Linux reads 256.
const MAX_SHEBANG: usize = 1024;

/// Wasmtime's own `e_ident[EI_OSABI]`, in every file that it precompiles.
const ELFOSABI_WASMTIME: u8 = 200;

/// The format of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    /// A core Wasm module, or a component.
    Wasm(GuestKind),
    /// Native code that Wasmtime compiled.
    Precompiled,
    /// An ELF program.
    Native,
    /// A script; its first line without `#!`.
    Script(String),
    /// A script whose first line is not usable.
    BadScript(BadShebang),
    /// Any other format.
    Other,
}

/// Why a `#!` line is not usable.
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

/// Reads the format of `file`, and sets its offset back to the start.
pub(crate) fn read<F: Read + Seek>(file: &mut F) -> io::Result<FileFormat> {
    let mut head = Vec::with_capacity(MAX_SHEBANG);
    file.take(MAX_SHEBANG as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(identify(&head))
}

fn identify(head: &[u8]) -> FileFormat {
    match head {
        // Core modules carry version 1 in 32 bits; components version 13 and layer 1 in 16 each.
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => FileFormat::Wasm(GuestKind::Module),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => FileFormat::Wasm(GuestKind::Component),
        [0x7f, b'E', b'L', b'F', _, _, _, ELFOSABI_WASMTIME, ..] => FileFormat::Precompiled,
        [0x7f, b'E', b'L', b'F', ..] => FileFormat::Native,
        [b'#', b'!', rest @ ..] => shebang(rest, head.len() < MAX_SHEBANG),
        _ => FileFormat::Other,
    }
}

fn shebang(rest: &[u8], whole_file: bool) -> FileFormat {
    let line = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => &rest[..end],
        None if whole_file => rest,
        None => return FileFormat::BadScript(BadShebang::TooLong),
    };
    match str::from_utf8(line) {
        // Editors on Windows end lines with a carriage return. No name ends with one.
        Ok(text) if !text.contains('\0') => {
            FileFormat::Script(text.trim_matches([' ', '\t', '\r']).to_owned())
        }
        _ => FileFormat::BadScript(BadShebang::NotText),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn file_kind_is_detected_by_the_first_bytes() {
        let long = [b"#!".as_slice(), &[b'x'; 4096]].concat();
        for (bytes, head) in [
            (&b"\0asm\x01\0\0\0"[..], FileFormat::Wasm(GuestKind::Module)),
            (b"\0asm\x0d\0\x01\0", FileFormat::Wasm(GuestKind::Component)),
            // Of a layer that is not known.
            (b"\0asm\x01\0\x02\0", FileFormat::Other),
            (b"\0asm", FileFormat::Other),
            (b"\x7fELF\x02\x01\x01\x00rest", FileFormat::Native),
            (b"\x7fELF\x02\x01\x01\xc8rest", FileFormat::Precompiled),
            (
                b"#! /bin/sh -e \r\necho",
                FileFormat::Script("/bin/sh -e".into()),
            ),
            (b"#!/bin/sh", FileFormat::Script("/bin/sh".into())),
            (
                "#!/bin/sh \u{3000}\n".as_bytes(),
                FileFormat::Script("/bin/sh \u{3000}".into()),
            ),
            (b"#!", FileFormat::Script(String::new())),
            (b"#!\xff\n", FileFormat::BadScript(BadShebang::NotText)),
            (b"#!/bin\0/sh\n", FileFormat::BadScript(BadShebang::NotText)),
            (&long, FileFormat::BadScript(BadShebang::TooLong)),
            (b"print(1)", FileFormat::Other),
            (b"", FileFormat::Other),
        ] {
            let mut file = Cursor::new(bytes);
            assert_eq!(read(&mut file).unwrap(), head);
            assert_eq!(file.position(), 0, "the file is handed on from its start");
        }
    }
}
