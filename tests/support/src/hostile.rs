//! Guests that attack what runs them, and modules that are no modules: `tests/hostile` holds their
//! texts. Which error each gets is for the trials to know.

use crate::Outcome;
use crate::image::Image;

/// The guests, each an image by [`image`].
const GUESTS: &[(&str, &str)] = &[
    ("neighbour", include_str!("../../hostile/neighbour.wat")),
    ("paths", include_str!("../../hostile/paths.wat")),
    ("descriptors", include_str!("../../hostile/descriptors.wat")),
    ("memory", include_str!("../../hostile/memory.wat")),
    ("tables", include_str!("../../hostile/tables.wat")),
    ("stack", include_str!("../../hostile/stack.wat")),
    ("network", include_str!("../../hostile/network.wat")),
    ("pairs", include_str!("../../hostile/pairs.wat")),
    ("sockets", include_str!("../../hostile/sockets.wat")),
    ("flood", include_str!("../../hostile/flood.wat")),
    ("numbers", include_str!("../../hostile/numbers.wat")),
];

/// Components that are guests: in [`MODULES`] each is `/bin/component-NAME.wasm`.
const COMPONENTS: &[(&str, &str)] = &[
    (
        "dropped-twice",
        include_str!("../../hostile/components/dropped-twice.wat"),
    ),
    (
        "far-list",
        include_str!("../../hostile/components/far-list.wat"),
    ),
    (
        "far-text",
        include_str!("../../hostile/components/far-text.wat"),
    ),
    ("flood", include_str!("../../hostile/components/flood.wat")),
    (
        "foreign-handle",
        include_str!("../../hostile/components/foreign-handle.wat"),
    ),
    (
        "inner-call",
        include_str!("../../hostile/components/inner-call.wat"),
    ),
    (
        "memories",
        include_str!("../../hostile/components/memories.wat"),
    ),
    (
        "resources",
        include_str!("../../hostile/components/resources.wat"),
    ),
    ("spin", include_str!("../../hostile/components/spin.wat")),
    (
        "tables",
        include_str!("../../hostile/components/tables.wat"),
    ),
];

/// The image whose folder `/bin` holds the modules.
pub const MODULES: &str = "localhost/test/hostile-modules:1";

/// The image of one of the guests.
pub fn image(guest: &str) -> String {
    format!("localhost/test/hostile-{guest}:1")
}

/// The module of one of the guests.
pub fn program(guest: &str) -> Outcome<Vec<u8>> {
    let found = GUESTS.iter().find(|(name, _)| *name == guest);
    let (_, text) = found.ok_or_else(|| format!("no hostile guest {guest}"))?;
    Ok(wat::parse_str(text)?)
}

/// All images, by name.
pub fn images() -> Outcome<Vec<(String, Image)>> {
    let mut images = Vec::new();
    for (name, _) in GUESTS {
        let guest = Image::new().program("/bin/guest.wasm", program(name)?);
        images.push((image(name), guest.entrypoint(&["/bin/guest.wasm"])));
    }
    let mut all = Image::new();
    for (name, bytes) in modules()? {
        all = all.program(&format!("/bin/{name}.wasm"), bytes);
    }
    for (name, text) in COMPONENTS {
        all = all.program(
            &format!("/bin/component-{name}.wasm"),
            wat::parse_str(text)?,
        );
    }
    images.push((MODULES.to_owned(), all));
    Ok(images)
}

/// Modules and components that must not compile or must not start, and those that cost the compiler most.
fn modules() -> Outcome<Vec<(&'static str, Vec<u8>)>> {
    let sound =
        wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?;
    let mut far_section = sound.clone();
    far_section.extend([0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, b'x']);
    let mut endless_number = sound.clone();
    endless_number.extend([
        0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00,
    ]);
    let wat = |memory: &str, rest: &str| {
        wat::parse_str(format!(
            r#"(module (memory (export "memory") {memory}) {rest} (func (export "_start")))"#
        ))
    };
    let command = component("", "1")?;
    Ok(vec![
        ("component-cut-off", command[..command.len() - 3].to_vec()),
        (
            "component-foreign",
            component(
                r#"(import "wasi:http/types@0.2.0" (instance (export "f" (func))))"#,
                "1",
            )?,
        ),
        (
            "component-newer",
            component(
                r#"(import "wasi:cli/environment@0.2.99" (instance (export "f" (func))))"#,
                "1",
            )?,
        ),
        (
            "component-deep",
            [&command[..], &nested_components(1000)].concat(),
        ),
        (
            "component-wide",
            component(&"(component)".repeat(1001), "1")?,
        ),
        ("component-huge-type", component(&huge_type(), "1")?),
        ("component-of-another-layer", b"\0asm\x0c\0\x01\0".to_vec()),
        (
            "component-as-module",
            [b"\0asm\x0d\0\x01\0", &sound[8..]].concat(),
        ),
        ("component-library", wat::parse_str("(component)")?),
        ("component-huge-memory", component("", "65536")?),
        ("cut-off", sound[..sound.len() - 3].to_vec()),
        ("far-section", far_section),
        ("endless-number", endless_number),
        ("many-functions", many_functions(1_000_001)),
        ("many-locals", body(&[1, 0xd1, 0x86, 0x03, 0x7f, 0x0b])),
        ("deep-nesting", nested_blocks(50_000)),
        ("huge-memory", wat("65536", "")?),
        ("huge-table", wat("1", "(table 10000000 externref)")?),
        ("far-data", wat("1", r#"(data (i32.const -1) "beyond")"#)?),
    ])
}

/// A component that is a command, with an import and a memory.
fn component(import: &str, memory: &str) -> Outcome<Vec<u8>> {
    // Without names, which would be a section that can be cut off.
    Ok(wat::parse_str(format!(
        r#"(component {import}
            (core module
                (memory (export "memory") {memory})
                (func (export "run") (result i32) (i32.const 0)))
            (core instance (instantiate 0))
            (func (result (result)) (canon lift (core func 0 "run")))
            (instance (export "wasi:cli/run@0.2.0") (export "run" (func 0))))"#
    ))?)
}

/// A section with a component in which this many others are nested. Text cannot be nested that deep.
fn nested_components(depth: usize) -> Vec<u8> {
    let mut nested = Vec::new();
    for _ in 0..=depth {
        nested = section(4, &[b"\0asm\x0d\0\x01\0", &nested[..]].concat());
    }
    nested
}

/// Each type holds the one before ten times.
fn huge_type() -> String {
    let types = (1..30).map(|n| {
        let ten = format!("$t{} ", n - 1).repeat(10);
        format!("(type $t{n} (tuple {ten}))")
    });
    format!(
        "(type $t0 (record (field \"a\" u8))) {}",
        types.collect::<String>()
    )
}

/// An unsigned number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A module whose functions have the type `() -> ()`; the first is `_start`.
fn module(functions: usize, code: &[u8]) -> Vec<u8> {
    let types = section(1, &[1, 0x60, 0, 0]);
    let declared = section(3, &[leb(functions), vec![0; functions]].concat());
    let memory = section(5, &[1, 0, 1]);
    let exports = section(7, b"\x02\x06memory\x02\x00\x06_start\x00\x00");
    [
        b"\0asm\x01\0\0\0",
        &types[..],
        &declared,
        &memory,
        &exports,
        &section(10, code),
    ]
    .concat()
}

/// A module of one function with this body.
fn body(body: &[u8]) -> Vec<u8> {
    module(1, &[&[1][..], &leb(body.len()), body].concat())
}

fn many_functions(count: usize) -> Vec<u8> {
    module(count, &[leb(count), [2, 0, 0x0b].repeat(count)].concat())
}

fn nested_blocks(depth: usize) -> Vec<u8> {
    body(
        &[
            &[0][..],
            &[0x02, 0x40].repeat(depth),
            &vec![0x0b; depth + 1],
        ]
        .concat(),
    )
}
