//! The interface itself: it is preview 1's, and no argument makes a host function trap.

use std::collections::BTreeSet;

use wasm_interp_network::Network;
use wasm_interp_wasi::{
    Guest, GuestError, GuestSettings, LateMounts, ModesBy,
    abi::types,
    errno::Errno,
    imports::{CoreType, NAMESPACES},
    interfaces::{INTERFACES, NEWEST},
    paths,
};

use crate::support::{BUFFER, MEMORY, OUT, Opening, ROOT, with_guest};

#[test]
fn list_of_interfaces_is_that_of_the_wit_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wit");
    // One function of the world is behind a feature, which the host functions have on.
    let mut resolve = wit_parser::Resolve {
        all_features: true,
        ..Default::default()
    };
    let (package, _) = resolve.push_dir(folder).expect(folder);
    let world = resolve
        .select_world(&[package], Some("command"))
        .expect("the world");
    let mut declared = Vec::new();
    for key in resolve.worlds[world].imports.keys() {
        let name = resolve.name_world_key(key);
        let wit_parser::WorldKey::Interface(interface) = key else {
            panic!("{name} is no interface");
        };
        let (name, version) = name.split_once('@').expect("a version");
        assert_eq!(version, NEWEST.to_string(), "{name}");
        let functions = resolve.interfaces[*interface].functions.values();
        let functions: BTreeSet<_> = functions.map(|one| one.name.clone()).collect();
        declared.push((name.to_owned(), functions));
    }
    let mut listed: Vec<_> = INTERFACES
        .iter()
        .map(|one| {
            let functions = one.functions.iter().map(|&name| name.to_owned());
            (one.name.to_owned(), functions.collect::<BTreeSet<_>>())
        })
        .collect();
    declared.sort();
    listed.sort();
    assert_eq!(listed, declared);
}

#[test]
fn list_of_imports_is_that_of_the_witx_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/witx");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect(folder)
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "witx"))
        .filter(|path| !path.ends_with("typenames.witx"))
        .collect();
    files.sort();
    let document = witx::load(&files).expect("witx");
    let mut modules = 0;
    for module in document.modules() {
        modules += 1;
        let namespace = NAMESPACES
            .iter()
            .find(|namespace| namespace.module == module.name.as_str())
            .unwrap_or_else(|| panic!("{} is no namespace", module.name.as_str()));
        let core = |types: &[witx::WasmType]| -> Vec<_> {
            types
                .iter()
                .map(|kind| match kind {
                    witx::WasmType::I32 => CoreType::I32,
                    witx::WasmType::I64 => CoreType::I64,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        let mut functions: Vec<_> = module
            .funcs()
            .map(|function| {
                let (parameters, results) = function.wasm_signature();
                let name = function.name.as_str().to_owned();
                (name, core(&parameters), core(&results))
            })
            .collect();
        functions.sort_by(|a, b| a.0.cmp(&b.0));
        let listed: Vec<_> = namespace
            .functions
            .iter()
            .map(|one| {
                let (parameters, results) = (one.parameters.to_vec(), one.results.to_vec());
                (one.name.to_owned(), parameters, results)
            })
            .collect();
        assert_eq!(listed, functions);
    }
    assert_eq!(modules, NAMESPACES.len());
}

#[test]
fn arguments_and_environment_are_bytes() {
    with_guest(|guest| {
        let (list, buffer) = (u64::from(BUFFER), u64::from(BUFFER) + 1024);
        guest
            .call("args_sizes_get", &[OUT.into(), u64::from(OUT) + 4])
            .expect("sizes");
        assert_eq!((guest.u32(OUT), guest.u32(OUT + 4)), (2, 10));
        guest.call("args_get", &[list, buffer]).expect("args");
        assert_eq!(guest.u32(BUFFER + 4), BUFFER + 1024 + 8);
        assert_eq!(guest.bytes(BUFFER + 1024, 10), b"program\0\xff\0");
        guest
            .call("environ_sizes_get", &[OUT.into(), u64::from(OUT) + 4])
            .expect("sizes");
        assert_eq!((guest.u32(OUT), guest.u32(OUT + 4)), (1, 11));
        guest.call("environ_get", &[list, buffer]).expect("environ");
        assert_eq!(guest.bytes(BUFFER + 1024, 11), b"NAME=value\0");
    });
}

#[test]
fn a_zero_byte_in_an_argument_is_refused() {
    let guest = Guest::new(GuestSettings {
        arguments: vec![b"a\0b".to_vec()],
        environment: Vec::new(),
        root: paths::root().expect("root"),
        late_mounts: LateMounts::Impossible,
        modes_by: ModesBy::of_kernel(),
        network: Network::none(),
        refusals: None,
    });
    assert_eq!(guest.err(), Some(GuestError::Nul(b"a\0b".to_vec())));
}

#[test]
fn the_root_is_the_one_preopen_until_it_is_closed() {
    with_guest(|guest| {
        let root = u64::from(ROOT);
        guest
            .call("fd_prestat_get", &[root, OUT.into()])
            .expect("prestat");
        assert_eq!((guest.u8(OUT), guest.u32(OUT + 4)), (0, 1));
        guest
            .call("fd_prestat_dir_name", &[root, BUFFER.into(), 1])
            .expect("name");
        assert_eq!(guest.bytes(BUFFER, 1), b"/");
        for other in [0, 1, 2, 4] {
            let answer = guest.call("fd_prestat_get", &[other, OUT.into()]);
            assert_eq!(answer, Err(Errno::Badf));
        }
        guest.close(ROOT).expect("close");
        assert_eq!(guest.create_error("f"), Errno::Badf);
    });
}

#[test]
fn addresses_outside_of_memory_are_efault() {
    with_guest(|guest| {
        let file = u64::from(guest.create("f"));
        let root = u64::from(ROOT);
        let beyond = [
            u64::from(MEMORY) - 1,
            u64::from(MEMORY),
            u64::from(u32::MAX) - 3,
        ];
        for address in beyond {
            let [list, count] = guest.vectors(&[(u32::try_from(address).expect("32 bits"), 16)]);
            for (name, arguments) in [
                ("args_get", vec![address, BUFFER.into()]),
                ("args_sizes_get", vec![address, OUT.into()]),
                ("clock_time_get", vec![0, 0, address]),
                ("fd_fdstat_get", vec![file, address]),
                ("fd_filestat_get", vec![file, address]),
                ("fd_read", vec![file, list, count, OUT.into()]),
                ("fd_write", vec![file, list, count, OUT.into()]),
                ("fd_write", vec![file, address, 1, OUT.into()]),
                ("fd_pread", vec![file, list, count, 0, OUT.into()]),
                ("fd_readdir", vec![root, address, 64, 0, OUT.into()]),
                ("path_unlink_file", vec![root, address, 8]),
                (
                    "path_readlink",
                    vec![root, OUT.into(), 1, address, 9, OUT.into()],
                ),
                ("poll_oneoff", vec![address, BUFFER.into(), 1, OUT.into()]),
                ("random_get", vec![address, 16]),
            ] {
                let answer = guest.call(name, &arguments);
                assert_eq!(answer, Err(Errno::Fault), "{name} at {address:#x}");
            }
        }
    });
}

#[test]
fn unknown_flags_and_numbers_are_einval() {
    with_guest(|guest| {
        let file = u64::from(guest.create("f"));
        let [path, length] = guest.put("f");
        for (name, arguments) in [
            ("fd_seek", vec![file, 0, 3, OUT.into()]),
            ("fd_seek", vec![file, 0, 1 << 20, OUT.into()]),
            ("fd_advise", vec![file, 0, 0, 6]),
            ("clock_time_get", vec![4, 0, OUT.into()]),
            ("fd_fdstat_set_flags", vec![file, 1 << 5]),
            ("fd_filestat_set_times", vec![file, 0, 0, 1 << 4]),
            (
                "path_filestat_get",
                vec![ROOT.into(), 2, path, length, OUT.into()],
            ),
            (
                "poll_oneoff",
                vec![BUFFER.into(), BUFFER.into(), 0, OUT.into()],
            ),
            (
                "poll_oneoff",
                vec![BUFFER.into(), BUFFER.into(), 1 << 17, OUT.into()],
            ),
            ("fd_read", vec![file, BUFFER.into(), 1025, OUT.into()]),
        ] {
            assert_eq!(guest.call(name, &arguments), Err(Errno::Inval), "{name}");
        }
        let mut open = Opening::read("f");
        open.oflags = types::Oflags::from_bits_retain(1 << 4);
        assert_eq!(guest.open(&open), Err(Errno::Inval));
    });
}

#[test]
fn functions_of_sockets_say_enotsock_of_files() {
    with_guest(|guest| {
        let file = u64::from(guest.create("f"));
        let [list, count] = guest.vectors(&[(BUFFER, 8)]);
        let (out, out2) = (u64::from(OUT), u64::from(OUT) + 8);
        for (name, arguments) in [
            ("sock_accept", vec![file, 0, out]),
            ("sock_recv", vec![file, list, count, 0, out, out2]),
            ("sock_send", vec![file, list, count, 0, out]),
            ("sock_shutdown", vec![file, 1]),
            ("sock_shutdown", vec![file, 0]),
        ] {
            assert_eq!(guest.call(name, &arguments), Err(Errno::Notsock), "{name}");
        }
    });
}

#[test]
fn clocks_are_the_kernels() {
    with_guest(|guest| {
        let mut read = |id: u64| {
            guest
                .call("clock_time_get", &[id, 0, OUT.into()])
                .expect("a clock");
            guest.u64(OUT)
        };
        let system = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("after 1970");
        assert!(u128::from(read(0)) >= system.as_nanos());
        let (before, after) = (read(1), read(1));
        assert!(after >= before);
        // What a process has used is less than the time since the machine's start.
        assert!(read(2) > 0 && read(2) < read(1));
        assert!(read(3) > 0);
        for id in 0..4 {
            guest
                .call("clock_res_get", &[id, OUT.into()])
                .expect("resolution");
            assert!(guest.u64(OUT) > 0);
        }
    });
}

#[test]
fn random_data_fills_the_buffer() {
    with_guest(|guest| {
        let length = 70_000;
        guest
            .call("random_get", &[BUFFER.into(), length])
            .expect("random");
        let data = guest.bytes(BUFFER, 70_000);
        // 16 equal bytes in a row would be a hole.
        assert!(
            data.windows(16)
                .all(|part| part.iter().any(|byte| *byte != part[0]))
        );
    });
}
