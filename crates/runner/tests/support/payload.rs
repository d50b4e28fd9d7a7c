//! Native code of the test's choice in the place of a guest's: what a guest would have that has broken
//! out of its Wasm sandbox.
//!
//! The runner is the one that is shipped. Only the native code that it is handed is not the
//! compiler's: in the artifact of a guest, the body of `_start` is overwritten.

use std::{path::Path, process::Command};

/// One argument of a system call.
#[derive(Clone, Debug)]
pub(crate) enum Argument {
    Number(i64),
    /// A pointer to these bytes.
    Bytes(Vec<u8>),
    /// What the call before has returned.
    Previous,
}

/// A pointer to a C string.
pub(crate) fn text(text: &str) -> Argument {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    Argument::Bytes(bytes)
}

impl From<i64> for Argument {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<i32> for Argument {
    fn from(number: i32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Argument {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// A system call that the code makes.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    number: i64,
    arguments: Vec<Argument>,
}

/// A call with these arguments; the rest is 0.
pub(crate) fn call(number: i64, arguments: &[Argument]) -> Call {
    Call {
        number,
        arguments: arguments.to_vec(),
    }
}

/// An artifact whose code makes these calls, prints what each returns on a line of its own, and exits
/// with 0.
pub(crate) fn artifact(calls: &[Call]) -> Vec<u8> {
    artifact_of("", calls)
}

/// The same for a module with these imports.
pub(crate) fn artifact_of(imports: &str, calls: &[Call]) -> Vec<u8> {
    let mut code = program();
    code.extend(table(calls));
    // Every store is a few bytes of code.
    let stores: String = (0..code.len() / 4 + 64)
        .map(|at| format!("(i32.store (i32.const {}) (i32.const {at}))\n", at * 4))
        .collect();
    let guest = format!("(module {imports} (memory 2) (func (export \"_start\") {stores}))");
    let wasm = wat::parse_str(guest).expect("the guest's WAT");
    let engine = wasm_interp_artifact::load::engine(1 << 20).expect("engine");
    let mut artifact = engine.precompile_module(&wasm).expect("compile the guest");
    let place = function(&artifact);
    assert!(code.len() <= place.len(), "{} in {place:?}", code.len());
    artifact[place.start..][..code.len()].copy_from_slice(&code);
    artifact
}

/// `payload.c`, as it lies in memory.
fn program() -> Vec<u8> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support");
    let directory = tempfile::tempdir().expect("directory");
    let output = directory.path().join("payload");
    let script = sources.join("payload.ld");
    let built = Command::new("cc")
        .args(["-O1", "-ffreestanding", "-fPIE", "-fno-stack-protector"])
        .args(["-fno-asynchronous-unwind-tables", "-nostdlib", "-static"])
        .args(["-Wl,--build-id=none", "-Wl,--oformat=binary"])
        .arg(format!("-Wl,-T,{}", script.display()))
        .arg("-o")
        .arg(&output)
        .arg(sources.join("payload.c"))
        .status()
        .expect("run cc");
    assert!(built.success());
    std::fs::read(output).expect("read the payload")
}

/// What `payload.c` finds behind itself.
fn table(calls: &[Call]) -> Vec<u8> {
    const WORDS: usize = 9;
    let mut words = vec![i64::try_from(calls.len()).expect("a count")];
    let mut bytes = Vec::new();
    let behind = 8 * (1 + WORDS * calls.len());
    for call in calls {
        let (mut pointers, mut previous) = (0, 0);
        words.push(call.number);
        for index in 0..6 {
            words.push(match call.arguments.get(index) {
                None => 0,
                Some(Argument::Number(number)) => *number,
                Some(Argument::Previous) => {
                    previous |= 1 << index;
                    0
                }
                Some(Argument::Bytes(content)) => {
                    pointers |= 1 << index;
                    let at = behind + bytes.len();
                    bytes.extend(content);
                    bytes.resize(bytes.len().next_multiple_of(8), 0);
                    i64::try_from(at).expect("an offset")
                }
            });
        }
        words.extend([pointers, previous]);
    }
    let mut table: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    table.extend(bytes);
    table
}

/// Where in an artifact, which is an ELF file, the code of its largest function lies.
fn function(artifact: &[u8]) -> std::ops::Range<usize> {
    const SYMTAB: u64 = 2;
    const FUNCTION: u64 = 2;
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&artifact[at..][..size]);
        u64::from_le_bytes(bytes)
    };
    let index = |at: usize, size: usize| usize::try_from(number(at, size)).expect("an offset");
    let (headers, size, count) = (index(40, 8), index(58, 2), index(60, 2));
    let header = |section: usize| headers + section * size;
    let symbols = (0..count)
        .map(header)
        .find(|&at| number(at + 4, 4) == SYMTAB)
        .expect("a table of symbols");
    let (start, length) = (index(symbols + 24, 8), index(symbols + 32, 8));
    (start..start + length)
        .step_by(24)
        .filter(|&at| number(at + 4, 1) & 0xf == FUNCTION)
        .map(|at| {
            let section = header(index(at + 6, 2));
            // The symbol's address is an offset in its section, or beyond the section's address.
            let offset = index(at + 8, 8) - index(section + 16, 8);
            let start = index(section + 24, 8) + offset;
            start..start + index(at + 16, 8)
        })
        .max_by_key(std::iter::ExactSizeIterator::len)
        .expect("a function")
}
