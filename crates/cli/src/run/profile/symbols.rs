//! The functions of a guest's native code, by the symbols of the artifact: an ELF file as Wasmtime makes it. It maps
//! offsets in that file to names, and an address of a process to such an offset.
//!
//! Names are the guest's own, so they may hold anything, and demangling one may give any length.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;

use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, ReadCache};
use wasm_interp_workload::printable;

use super::tree::Frame;

/// The section with the code.
const TEXT: &str = ".text";
/// The longest name that is shown, in bytes.
const LONGEST: usize = 512;

/// The functions, in the order of their code.
pub(super) struct Symbols {
    /// Where the code is in the file.
    text: Range<u64>,
    functions: Vec<Function>,
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

struct Function {
    /// In the file.
    code: Range<u64>,
    /// The symbol, as the file has it.
    symbol: String,
    /// What its frames are; `None` until the first.
    frame: Option<Frame>,
}

/// Why there are no symbols.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SymbolsError {
    #[error(transparent)]
    Elf(#[from] object::Error),
    #[error("the file has no section {TEXT}")]
    NoText,
}

impl Symbols {
    /// Reads the symbols of an artifact.
    pub(super) fn of(artifact: &File) -> Result<Self, SymbolsError> {
        let cache = ReadCache::new(artifact);
        let file: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&cache)?;
        let text = file.section_by_name(TEXT).ok_or(SymbolsError::NoText)?;
        let (begin, length) = text.file_range().ok_or(SymbolsError::NoText)?;
        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(text.index()) && symbol.size() > 0)
            .filter_map(|symbol| {
                let name = String::from_utf8_lossy(symbol.name_bytes().ok()?);
                // Symbols of this file are relative to their section.
                let start = begin.checked_add(symbol.address())?;
                Some(Function {
                    code: start..start.checked_add(symbol.size())?,
                    symbol: name.into_owned(),
                    frame: None,
                })
            })
            .collect();
        functions.sort_by_key(|function| function.code.start);
        Ok(Self {
            text: begin..begin.saturating_add(length),
            functions,
            names: Vec::new(),
            numbers: HashMap::new(),
        })
    }

    /// The frame of the code at an offset in the file; `None` if that is no code.
    pub(super) fn frame(&mut self, offset: u64) -> Option<Frame> {
        if !self.text.contains(&offset) {
            return None;
        }
        let after = self
            .functions
            .partition_point(|function| function.code.start <= offset);
        let Some(function) = after
            .checked_sub(1)
            .map(|before| &mut self.functions[before])
            .filter(|function| function.code.contains(&offset))
        else {
            return Some(Frame::Unknown);
        };
        if let Some(frame) = function.frame {
            return Some(frame);
        }
        let frame = match function_name(&function.symbol) {
            None => Frame::Host,
            Some(name) => {
                let new = self.names.len() as u32;
                let number = *self.numbers.entry(name.clone()).or_insert(new);
                if number == new {
                    self.names.push(name);
                }
                Frame::Guest(number)
            }
        };
        function.frame = Some(frame);
        Some(frame)
    }

    /// What a frame is called.
    pub(super) fn name(&self, frame: Frame) -> &str {
        match frame {
            Frame::Guest(number) => &self.names[number as usize],
            Frame::Unknown => "[unknown]",
            Frame::Host => "[host]",
            Frame::Kernel => "[kernel]",
            Frame::Cut => "[deeper]",
        }
    }

    /// Whether `mapping` is of this file's code: then addresses in it are offsets in the file.
    fn is_code(&self, mapping: &CodeMapping) -> bool {
        let length = mapping.addresses.end - mapping.addresses.start;
        let files = mapping.offset..mapping.offset.saturating_add(length);
        files.contains(&self.text.start)
    }
}

/// The name of the function that a symbol of Wasmtime is for: `wasm[0]::function[12]::main`, without `::main` if the
/// module has no names. `None` for what Wasmtime adds: trampolines and its own functions.
fn function_name(symbol: &str) -> Option<String> {
    let (module, rest) = symbol.strip_prefix("wasm[")?.split_once("]::function[")?;
    let (number, rest) = rest.split_once(']')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(module) || !is_number(number) {
        return None;
    }
    match rest.strip_prefix("::") {
        Some(name) if !name.is_empty() => Some(readable(name)),
        _ => Some(symbol.to_owned()),
    }
}

/// A name as its language writes it, without the hash of Rust's.
fn readable(name: &str) -> String {
    let mut text = Shortened::default();
    let written = if let Ok(rust) = rustc_demangle::try_demangle(name) {
        write!(text, "{rust:#}").is_ok()
    } else if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
        let options = cpp_demangle::DemangleOptions::new();
        cpp.structured_demangle(&mut text, &options).is_ok()
    } else {
        false
    };
    // What is too long ends in an error too.
    if !written && !text.cut {
        text = Shortened::default();
        // Its only error is that of a name that is cut.
        let _ = text.write_str(name);
    }
    if text.cut {
        text.name.push('…');
    }
    printable(&text.name)
}

/// Text that ends at [`LONGEST`].
#[derive(Default)]
struct Shortened {
    name: String,
    cut: bool,
}

impl fmt::Write for Shortened {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST - self.name.len();
        let end = text.floor_char_boundary(room);
        self.name.push_str(&text[..end]);
        if end < text.len() {
            self.cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Executable memory of a process that is a file's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CodeMapping {
    addresses: Range<u64>,
    /// Of the first address in the file.
    offset: u64,
    inode: u64,
}

impl CodeMapping {
    /// The mapping of an artifact's code, among those that `/proc/PID/maps` lists.
    ///
    /// The file's device is not compared: that of the mapping is another on file systems with subvolumes.
    pub(super) fn of(symbols: &Symbols, artifact: &File, maps: &str) -> io::Result<Option<Self>> {
        let inode = artifact.metadata()?.ino();
        Ok(maps
            .lines()
            .filter_map(Self::parse)
            .find(|mapping| mapping.inode == inode && symbols.is_code(mapping)))
    }

    /// A line of proc(5): `08048000-08056000 r-xp 00001000 03:0c 64593 /usr/sbin/gpm`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next()?;
        let offset = fields.next()?;
        let inode = fields.nth(1)?;
        let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            addresses: hexadecimal(start)?..hexadecimal(end)?,
            offset: hexadecimal(offset)?,
            inode: inode.parse().ok()?,
        })
        .filter(|mapping| {
            rights.as_bytes().get(2) == Some(&b'x')
                && mapping.addresses.start < mapping.addresses.end
        })
    }

    /// The offset in the file of what is at an address.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        self.addresses
            .contains(&address)
            .then(|| address - self.addresses.start + self.offset)
    }
}

#[cfg(test)]
impl Symbols {
    /// None at all.
    pub(super) fn none() -> Self {
        Self::named(&[])
    }

    /// Names without code, numbered from 0 on.
    pub(super) fn named(names: &[&str]) -> Self {
        Self {
            text: 0..0,
            functions: Vec::new(),
            names: names.iter().map(ToString::to_string).collect(),
            numbers: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The artifact of a module or component.
    fn artifact(text: &str) -> File {
        let code = wasm_interp_compiler::compile(&wat::parse_str(text).unwrap()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&code).unwrap();
        file
    }

    /// The names of all frames that the code has, in its order.
    fn names(symbols: &mut Symbols) -> Vec<String> {
        let mut frames = Vec::new();
        for offset in symbols.text.clone() {
            let frame = symbols.frame(offset).unwrap();
            if !frames.contains(&frame) {
                frames.push(frame);
            }
        }
        let name = |frame: &Frame| symbols.name(*frame).to_owned();
        frames.iter().map(name).collect()
    }

    #[test]
    fn code_of_a_module_has_its_names() {
        let artifact = artifact(
            r#"(module
                 (import "wasi_snapshot_preview1" "sched_yield" (func $imported (result i32)))
                 (func $busy (param i32) (result i32) (i32.mul (local.get 0) (i32.const 3)))
                 (func $_ZN4core3fmt5write17h0123456789abcdefE (drop (call $busy (i32.const 1))))
                 (func $_Z4swapRiS_ (drop (call $imported)))
                 (func (export "_start") (drop (call $imported))))"#,
        );
        let mut symbols = Symbols::of(&artifact).unwrap();
        let names = names(&mut symbols);
        for name in ["busy", "core::fmt::write", "swap(int&, int&)", "[host]"] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
        // It has no name but that of its export.
        assert!(
            names.iter().any(|name| name == "wasm[0]::function[4]"),
            "{names:?}"
        );
        assert!(
            !names.iter().any(|name| name.contains("trampoline")),
            "{names:?}"
        );
    }

    #[test]
    fn code_of_a_component_has_the_names_of_its_modules() {
        let artifact = artifact(
            r#"(component
                 (core module $first (func $of_first (export "f")))
                 (core module $second
                   (import "" "f" (func $f))
                   (func $of_second (export "run") (result i32) (call $f) (i32.const 0)))
                 (core instance $a (instantiate $first))
                 (core instance $b (instantiate $second (with "" (instance $a))))
                 (func $run (result (result)) (canon lift (core func $b "run")))
                 (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#,
        );
        let mut symbols = Symbols::of(&artifact).unwrap();
        let names = names(&mut symbols);
        for name in ["of_first", "of_second"] {
            assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
        }
    }

    #[test]
    fn offset_outside_of_the_code_has_no_frame() {
        let artifact = artifact(r#"(module (func (export "_start")))"#);
        let mut symbols = Symbols::of(&artifact).unwrap();
        let text = symbols.text.clone();
        assert_eq!(symbols.frame(text.start - 1), None);
        assert_eq!(symbols.frame(text.end), None);
        assert!(symbols.frame(text.start).is_some());
    }

    #[test]
    fn file_that_is_no_artifact_is_an_error() {
        assert!(Symbols::of(&tempfile::tempfile().unwrap()).is_err());
    }

    #[test]
    fn functions_of_one_name_are_one_frame() {
        let artifact = artifact(
            r#"(module (func $_ZN1a1b17h0123456789abcdefE) (func $_ZN1a1b17hfedcba9876543210E)
                 (func (export "_start")))"#,
        );
        let names = names(&mut Symbols::of(&artifact).unwrap());
        assert_eq!(names.iter().filter(|name| *name == "a::b").count(), 1);
    }

    #[test]
    fn name_is_that_of_the_function_alone() {
        let name = function_name("wasm[0]::function[12]::std::io::Write::write");
        assert_eq!(name.as_deref(), Some("std::io::Write::write"));
        let name = function_name("wasm[3]::function[12]");
        assert_eq!(name.as_deref(), Some("wasm[3]::function[12]"));
        for other in [
            "wasm[0]::array_to_wasm_trampoline[1]",
            "wasmtime_builtin_memory_copy",
            "",
        ] {
            assert_eq!(function_name(other), None, "{other}");
        }
    }

    #[test]
    fn name_of_a_guest_cannot_hold_control_characters_or_be_endless() {
        assert_eq!(readable("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
        let long = readable(&"ä".repeat(10_000));
        assert!(long.len() <= LONGEST + '…'.len_utf8() && long.ends_with('…'));
        // A<int, int>, then A of two of the one before, and so on: each argument doubles the text.
        let digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars();
        let doubling: String = digits.map(|n| format!("S_IS{n}_S{n}_E")).collect();
        let doubled = readable(&format!("_Z1f1AIiiE{doubling}"));
        assert!(
            doubled.starts_with("f(A<int, int>, A<A<int, int>"),
            "{doubled}"
        );
        assert!(doubled.len() <= LONGEST + '…'.len_utf8() && doubled.ends_with('…'));
    }

    #[test]
    fn mapping_is_found_by_file_and_place() {
        let line =
            "7f0000001000-7f0000003000 r-xp 00001000 fe:00 4711       /cache/entries/a b.code";
        let mapping = CodeMapping::parse(line).unwrap();
        assert_eq!(mapping.inode, 4711);
        assert_eq!(mapping.offset(0x7f00_0000_1010), Some(0x1010));
        assert_eq!(mapping.offset(0x7f00_0000_3000), None);
        assert_eq!(mapping.offset(0x7f00_0000_0fff), None);
        let data = line.replace("r-xp", "r--p");
        assert_eq!(CodeMapping::parse(&data), None);
        assert_eq!(
            CodeMapping::parse("7f0000003000-7f0000001000 r-xp 0 fe:00 1"),
            None
        );
        assert_eq!(CodeMapping::parse("nonsense"), None);
    }

    #[test]
    fn mapping_of_another_part_or_file_is_not_taken() {
        let artifact = artifact(r#"(module (func (export "_start")))"#);
        let symbols = Symbols::of(&artifact).unwrap();
        let inode = artifact.metadata().unwrap().ino();
        let line = |offset: u64, inode: u64| {
            format!("7f0000001000-7f0000002000 r-xp {offset:08x} fe:00 {inode} /a\n")
        };
        let start = symbols.text.start;
        let find = |maps: &str| CodeMapping::of(&symbols, &artifact, maps).unwrap();
        assert_eq!(find(&line(start, inode + 1)), None);
        assert_eq!(find(&line(start + 0x1000, inode)), None);
        let both = line(start, inode + 1) + &line(start, inode);
        assert_eq!(find(&both).unwrap().inode, inode);
    }
}
