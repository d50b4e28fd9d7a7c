//! Components that pass and that are refused. What they say of types was compared with Wasmtime's linker.

use std::{fs, path::Path};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{
    Resolve, UnresolvedPackageGroup, WorldId, WorldItem,
    abi::{AbiVariant, WasmType},
};

use super::*;
use crate::{WasmLayer, check};

/// Without names of its own, which would be a section that may be cut off.
const RUN: &str = r#"
    (core module (func (export "run") (result i32) (i32.const 0)))
    (core instance (instantiate 0))
    (func (result (result)) (canon lift (core func 0 "run")))
    (instance (export "wasi:cli/run@0.2.0") (export "run" (func 0)))"#;

fn checked(wat: &str) -> Result<WasmLayer, ModuleRefusal> {
    check(&wat::parse_str(format!("(component {wat})")).unwrap())
}

fn refused(imports: &str) -> Vec<String> {
    match checked(&format!("{imports} {RUN}")) {
        Err(ModuleRefusal::Interfaces { imports, newest }) => {
            assert_eq!(newest, "0.2.12");
            imports
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_import_that_is_not_offered_is_named_with_its_version() {
    let imports = r#"
        (import "wasi:http/types@0.2.4" (instance (export "fields" (type (sub resource)))))
        (import "wasi:cli/environment@0.2.13" (instance (export "f" (func))))
        (import "wasi:clocks/monotonic-clock@0.3.0" (instance (export "f" (func))))
        (import "wasi:clocks/timezone@0.2.12" (instance (export "f" (func))))
        (import "wasi:random/random" (instance (export "f" (func))))
        (import "wasi:random/insecure@0.2.0" (instance (export "lucky" (func))))
        (import "print" (func))"#;
    let expected = [
        "wasi:http/types@0.2.4 (interface)",
        "wasi:cli/environment@0.2.13 (a newer version)",
        "wasi:clocks/monotonic-clock@0.3.0 (another WASI)",
        "wasi:clocks/timezone@0.2.12 (interface)",
        "wasi:random/random (no version)",
        "wasi:random/insecure@0.2.0.lucky (function)",
        "print (no interface)",
    ];
    assert_eq!(refused(imports), expected);
}

/// The WIT files as they are in this version: without what came later.
fn wit(version: &str) -> (Resolve, WorldId) {
    let package = |path: &Path| {
        let newest = interfaces::NEWEST.to_string();
        let mut text = fs::read_to_string(path).expect("a WIT file");
        if version != newest {
            let later = format!("@since(version = {newest})");
            text = text.replace(&later, "@unstable(feature = later)");
            text = text.replace(&newest, version);
        }
        UnresolvedPackageGroup::parse(path, &text).expect("WIT")
    };
    let folder = Path::new("../wasi/wit");
    let packages = fs::read_dir(folder.join("deps")).expect("a folder");
    let packages = packages.map(|entry| package(&entry.expect("an entry").path()));
    let mut resolve = Resolve::default();
    resolve.features.insert("network-error-code".to_owned());
    let main = resolve.push_groups(package(&folder.join("world.wit")), packages.collect());
    let world = resolve.select_world(&[main.expect("packages")], Some("command"));
    (resolve, world.expect("the world"))
}

/// A component that imports all of this version, as the tools of languages make it.
fn all_imports(version: &str) -> Vec<u8> {
    let (resolve, world) = wit(version);
    let mut imports = String::new();
    for (key, item) in &resolve.worlds[world].imports {
        let WorldItem::Interface { id, .. } = item else {
            panic!("{key:?} is no interface");
        };
        let interface = resolve.name_world_key(key);
        for (name, function) in &resolve.interfaces[*id].functions {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            let types = |types: &[WasmType]| -> String {
                let text = |kind: &WasmType| match kind {
                    WasmType::I64 | WasmType::PointerOrI64 => " i64",
                    WasmType::I32 | WasmType::Pointer | WasmType::Length => " i32",
                    WasmType::F32 | WasmType::F64 => panic!("{name} has a float"),
                };
                types.iter().map(text).collect()
            };
            let (parameters, results) = (types(&signature.params), types(&signature.results));
            imports += &format!(
                r#"(import "{interface}" "{name}" (func (param{parameters}) (result{results})))"#
            );
        }
    }
    let run = format!("wasi:cli/run@{version}#run");
    let wat = format!(
        r#"(module {imports} (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "{run}") (result i32) (i32.const 0)))"#
    );
    let mut module = wat::parse_str(wat).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("embed");
    let mut encoder = ComponentEncoder::default().module(&module).expect("module");
    encoder.encode().expect("a component")
}

#[test]
fn every_version_of_wasi_0_2_passes() {
    for patch in 0..=interfaces::NEWEST.patch {
        let component = all_imports(&format!("0.2.{patch}"));
        let outside = Outside::read(&component).unwrap();
        assert_eq!(outside.imports.len(), interfaces::INTERFACES.len());
        assert_eq!(check(&component), Ok(WasmLayer::Component), "{patch}");
    }
}

#[test]
fn functions_of_another_type_are_all_named() {
    let pollable = r#"(import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type (sub resource)))))
        (alias export $poll "pollable" (type $pollable))"#;
    let imports = format!(
        r#"{pollable}
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance
            (alias outer 1 $pollable (type))
            (export "pollable" (type $p (eq 0)))
            (type $own (own $p))
            (export "now" (func (result string)))
            (export "resolution" (func (param "of" u64) (result u64)))
            (export "subscribe-instant" (func (param "when" u64) (result u64)))
            (export "subscribe-duration" (func (param "when" s64) (result $own)))))
        (import "wasi:clocks/wall-clock@0.2.0" (instance
            (type $record (record (field "seconds" u64) (field "nanos" u32)))
            (export "datetime" (type $datetime (eq $record)))
            (export "now" (func (result $datetime)))
            (export "resolution" (func))))
        (import "wasi:cli/exit@0.2.0" (instance
            (export "exit" (func (param "status" (result u32))))
            (export "exit-with-code" (func (param "status-code" u8)))))
        (import "wasi:random/random@0.2.0" (instance
            (export "get-random-bytes" (func (param "len" u64) (result (option u8))))))
        (import "wasi:random/insecure-seed@0.2.0" (instance
            (export "insecure-seed" (func (result (tuple u64 u64 u64))))))
        (import "wasi:cli/environment@0.2.0" (instance
            (export "get-environment" (func (result (list (tuple string u8)))))
            (export "initial-cwd" (func (result (option string))))))
        (import "wasi:cli/stdin@0.2.0" (instance
            (alias outer 1 $pollable (type))
            (export "input-stream" (type $stream (eq 0)))
            (export "get-stdin" (func (result (own $stream))))))"#
    );
    let expected = [
        "wasi:clocks/monotonic-clock@0.2.0.now",
        "wasi:clocks/monotonic-clock@0.2.0.resolution",
        "wasi:clocks/monotonic-clock@0.2.0.subscribe-instant",
        "wasi:clocks/monotonic-clock@0.2.0.subscribe-duration",
        "wasi:clocks/wall-clock@0.2.0.now",
        "wasi:clocks/wall-clock@0.2.0.resolution",
        "wasi:cli/exit@0.2.0.exit",
        "wasi:random/random@0.2.0.get-random-bytes",
        "wasi:random/insecure-seed@0.2.0.insecure-seed",
        "wasi:cli/environment@0.2.0.get-environment",
        "wasi:cli/stdin@0.2.0.get-stdin",
    ];
    let expected = expected.map(|name| format!("{name} (function of another type)"));
    assert_eq!(refused(&imports), expected);
}

/// A function that is accepted with the type as it is, and refused with each of the others.
fn is_compared(import: impl Fn(&str) -> String, function: &str, right: &str, wrong: &[&str]) {
    let passes = checked(&format!("{} {RUN}", import(right)));
    assert_eq!(passes, Ok(WasmLayer::Component), "{right}");
    for wrong in wrong {
        let expected = [format!("{function} (function of another type)")];
        assert_eq!(refused(&import(wrong)), expected, "{wrong}");
    }
}

#[test]
fn cases_of_variants_are_compared() {
    let flush = |cases: &str| {
        format!(
            r#"(import "wasi:io/error@0.2.0" (instance $error
                (export "error" (type (sub resource)))))
            (alias export $error "error" (type $error))
            (import "wasi:io/streams@0.2.0" (instance
                (alias outer 1 $error (type $outer))
                (export "error" (type $e (eq $outer)))
                (export "output-stream" (type $output (sub resource)))
                (type $own (own $e))
                (type $variant (variant {cases}))
                (export "stream-error" (type $failure (eq $variant)))
                (export "[method]output-stream.flush" (func
                    (param "self" (borrow $output)) (result (result (error $failure)))))))"#
        )
    };
    is_compared(
        flush,
        "wasi:io/streams@0.2.0.[method]output-stream.flush",
        r#"(case "last-operation-failed" $own) (case "closed")"#,
        &[
            r#"(case "closed") (case "last-operation-failed" $own)"#,
            r#"(case "last-operation-failed" $own)"#,
            r#"(case "last-operation-failed" $own) (case "ended")"#,
            r#"(case "last-operation-failed" $own) (case "closed" u8)"#,
            r#"(case "last-operation-failed") (case "closed")"#,
            r#"(case "last-operation-failed" $own) (case "closed") (case "more")"#,
        ],
    );
}

#[test]
fn names_of_enums_are_compared() {
    let family = |names: &str| {
        format!(
            r#"(import "wasi:sockets/tcp@0.2.0" (instance
                (export "tcp-socket" (type $socket (sub resource)))
                (type $enum (enum {names}))
                (export "ip-address-family" (type $family (eq $enum)))
                (export "[method]tcp-socket.address-family" (func
                    (param "self" (borrow $socket)) (result $family)))))"#
        )
    };
    is_compared(
        family,
        "wasi:sockets/tcp@0.2.0.[method]tcp-socket.address-family",
        r#""ipv4" "ipv6""#,
        &[
            r#""ipv6" "ipv4""#,
            r#""ipv4""#,
            r#""ipv4" "ipv5""#,
            r#""ipv4" "ipv6" "unix""#,
        ],
    );
}

#[test]
fn names_of_flags_are_compared() {
    const CODES: &str = r#"
        "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota"
        "exist" "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted"
        "invalid" "io" "is-directory" "loop" "too-many-links" "message-size"
        "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
        "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported"
        "no-tty" "no-such-device" "overflow" "not-permitted" "pipe" "read-only"
        "invalid-seek" "text-file-busy" "cross-device""#;
    let get_flags = |kind: &str| {
        format!(
            r#"(import "wasi:filesystem/types@0.2.0" (instance
                (export "descriptor" (type $file (sub resource)))
                (type $codes (enum {CODES}))
                (export "error-code" (type $code (eq $codes)))
                (type $of ({kind} "file-integrity-sync" "data-integrity-sync"
                    "requested-write-sync" "mutate-directory"))
                (export "descriptor-flags" (type $flags (eq $of)))
                (export "[method]descriptor.get-flags" (func (param "self" (borrow $file))
                    (result (result $flags (error $code)))))))"#
        )
    };
    is_compared(
        get_flags,
        "wasi:filesystem/types@0.2.0.[method]descriptor.get-flags",
        r#"flags "read" "write""#,
        &[
            r#"flags "write" "read""#,
            r#"flags "read" "append""#,
            r#"flags "read""#,
            r#"enum "read" "write""#,
        ],
    );
}

/// What Wasmtime's linker does not look at is not looked at here.
#[test]
fn names_of_parameters_own_and_borrow_and_types_without_functions_do_not_matter() {
    let imports = r#"
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (type $own (own $p))
            (export "poll" (func (param "all" (list $own)) (result (list u32))))))
        (import "wasi:random/random@0.2.0" (instance
            (type $record (record (field "a" u8)))
            (export "more" (type (eq $record)))
            (export "get-random-bytes" (func (param "n" u64) (result (list u8))))))
        (alias export $poll "pollable" (type $pollable))
        (import "pollable" (type (eq $pollable)))
        (type $flags (flags "a"))
        (import "flags" (type (eq $flags)))"#;
    assert_eq!(
        checked(&format!("{imports} {RUN}")),
        Ok(WasmLayer::Component)
    );
}

#[test]
fn resources_are_those_that_are_offered() {
    let imports = r#"
        (import "wasi:io/error@0.2.0" (instance $error
            (export "error" (type (sub resource)))
            (export "fault" (type (sub resource)))))
        (alias export $error "error" (type $error))
        (import "wasi:io/poll@0.2.0" (instance
            (alias outer 1 $error (type))
            (export "pollable" (type (eq 0)))
            (export "nested" (instance))))
        (import "wasi:io/streams@0.2.0" (instance
            (export "error" (type (sub resource)))))
        (import "own" (type (sub resource)))"#;
    let expected = [
        "wasi:io/error@0.2.0.fault (resource)",
        "wasi:io/poll@0.2.0.pollable (another resource)",
        "wasi:io/poll@0.2.0.nested (neither function nor resource)",
        "wasi:io/streams@0.2.0.error (resource)",
        "own (no interface)",
    ];
    assert_eq!(refused(imports), expected);
}

#[test]
fn two_versions_of_an_interface_have_the_same_resource() {
    let poll = |version: &str, name: &str| {
        format!(
            r#"(import "wasi:io/poll@{version}" (instance ${name}
                (export "pollable" (type (sub resource)))))
            (alias export ${name} "pollable" (type ${name}))"#
        )
    };
    let clock = |version: &str, pollable: &str| {
        format!(
            r#"(import "wasi:clocks/monotonic-clock@{version}" (instance
                (alias outer 1 ${pollable} (type))
                (export "pollable" (type $p (eq 0)))
                (export "subscribe-instant" (func (param "when" u64) (result (own $p))))))"#
        )
    };
    let both = [
        poll("0.2.1", "a"),
        poll("0.2.9", "b"),
        clock("0.2.3", "a"),
        clock("0.2.12", "b"),
    ];
    let both = both.concat();
    assert_eq!(checked(&format!("{both} {RUN}")), Ok(WasmLayer::Component));
    // A function with a resource that is refused already is not named too.
    let newer = [poll("0.2.13", "a"), clock("0.2.3", "a")].concat();
    assert_eq!(refused(&newer), ["wasi:io/poll@0.2.13 (a newer version)"]);
}

#[test]
fn run_is_a_function_that_returns_a_result() {
    let wrong_run = |wat: &str| {
        let export = "wasi:cli/run@0.2.0".to_owned();
        let refusal = ModuleRefusal::WrongRun { export };
        assert_eq!(checked(wat), Err(refusal), "{wat}");
    };
    let nameless = RUN.replace(r#"(export "run" (func 0))"#, "");
    wrong_run(&nameless);
    let other = RUN.replace(r#"(export "run" (func 0))"#, r#"(export "main" (func 0))"#);
    wrong_run(&other);
    let number = RUN.replace("(result (result))", "(result u32)");
    wrong_run(&number);
    let with_value = RUN
        .replace(
            "(core module",
            r#"(core module (memory (export "memory") 1)"#,
        )
        .replace(
            "(core instance (instantiate 0))",
            r#"(core instance (instantiate 0))
            (alias core export 0 "memory" (core memory $memory))"#,
        )
        .replace("(result (result))", "(result (result u8))")
        .replace(
            r#"(core func 0 "run")"#,
            r#"(core func 0 "run") (memory $memory)"#,
        );
    wrong_run(&with_value);
    let taking = RUN.replace(
        "(func (export \"run\") (result i32)",
        "(func (export \"run\") (param i32) (result i32)",
    );
    let taking = taking.replace(
        "(func (result (result))",
        "(func (param \"n\" u32) (result (result))",
    );
    wrong_run(&taking);
    let function = RUN.replace(
        r#"(instance (export "wasi:cli/run@0.2.0") (export "run" (func 0)))"#,
        r#"(export "wasi:cli/run@0.2.0" (func 0))"#,
    );
    wrong_run(&function);
}

/// Wasmtime takes the newest, but its own before that.
#[test]
fn of_several_runs_the_one_that_wasmtime_takes_is_checked() {
    let empty = |version: &str| format!(r#"(instance (export "wasi:cli/run@{version}"))"#);
    assert_eq!(
        checked(&format!(
            "{} {}",
            empty("0.2.0"),
            RUN.replace("@0.2.0", "@0.2.3")
        )),
        Ok(WasmLayer::Component)
    );
    assert_eq!(
        checked(&format!("{RUN} {}", empty("0.2.3"))),
        Err(ModuleRefusal::WrongRun {
            export: "wasi:cli/run@0.2.3".to_owned()
        })
    );
    let a_type = r#"(type $t (enum "a")) (export "wasi:cli/run@0.2.5" (type $t))"#;
    assert_eq!(
        checked(&format!("{RUN} {a_type}")),
        Err(ModuleRefusal::WrongRun {
            export: "wasi:cli/run@0.2.5".to_owned()
        })
    );
    let newest = RUN.replace("@0.2.0", "@0.2.12");
    assert_eq!(
        checked(&format!("{newest} {}", empty("0.2.99"))),
        Ok(WasmLayer::Component)
    );
}

#[test]
fn hundreds_of_imports_are_counted() {
    let imports: String = (0..130)
        .map(|n| format!(r#"(import "a:b/c{n}@0.1.0" (instance (export "f" (func))))"#))
        .collect();
    let refused = refused(&imports);
    assert_eq!(refused.len(), crate::text::MAX_NAMED + 1);
    assert_eq!(refused.last().map(String::as_str), Some("and 30 more"));
}

#[test]
fn a_component_that_is_no_command_is_refused_with_its_exports() {
    let proxy = RUN.replace("wasi:cli/run@0.2.0", "wasi:http/incoming-handler@0.2.0");
    let exports = vec!["wasi:http/incoming-handler@0.2.0".to_owned()];
    assert_eq!(checked(&proxy), Err(ModuleRefusal::NoRun { exports }));
    let newer = RUN.replace("@0.2.0", "@0.3.0");
    let exports = vec!["wasi:cli/run@0.3.0".to_owned()];
    assert_eq!(checked(&newer), Err(ModuleRefusal::NoRun { exports }));
    let exports = Vec::new();
    assert_eq!(checked(""), Err(ModuleRefusal::NoRun { exports }));
}

#[test]
fn nested_imports_are_the_components_own_affair() {
    let nested = r#"(component (import "a:b/c@1.0.0" (instance (export "f" (func)))))
        (core module (import "env" "f" (func)))"#;
    assert_eq!(
        checked(&format!("{RUN} {nested}")),
        Ok(WasmLayer::Component)
    );
}

/// Adds a section that holds a component. The text format cannot nest as deep as the binary one.
fn append_component(outer: &mut Vec<u8>, inner: &[u8]) {
    const SECTION: u8 = 4;
    let length = u32::try_from(inner.len()).unwrap();
    outer.push(SECTION);
    for place in 0..4 {
        outer.push((length >> (7 * place)) as u8 | 0x80);
    }
    outer.push((length >> 28) as u8);
    outer.extend(inner);
}

#[test]
fn components_are_nested_a_hundred_deep_at_most() {
    let nested = |depth| {
        let mut inner = wat::parse_str("(component)").unwrap();
        for _ in 0..depth {
            let mut outer = wat::parse_str("(component)").unwrap();
            append_component(&mut outer, &inner);
            inner = outer;
        }
        let mut command = wat::parse_str(format!("(component {RUN})")).unwrap();
        append_component(&mut command, &inner);
        check(&command)
    };
    assert_eq!(nested(NESTING - 1), Ok(WasmLayer::Component));
    match nested(NESTING) {
        Err(ModuleRefusal::InvalidComponent { reason }) => {
            assert!(reason.contains("nested more than 100 deep"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_truncated_component_is_refused_at_every_length() {
    let whole = wat::parse_str(format!("(component {RUN})")).unwrap();
    assert_eq!(check(&whole), Ok(WasmLayer::Component));
    for end in 4..whole.len() {
        assert!(check(&whole[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn asynchronous_functions_and_shared_memory_are_refused() {
    for wat in [
        r#"(type (func async (result u32)))"#,
        r#"(core module (memory 1 1 shared))"#,
    ] {
        assert!(
            matches!(checked(wat), Err(ModuleRefusal::InvalidComponent { .. })),
            "{wat}"
        );
    }
}
