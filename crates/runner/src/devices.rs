//! Which devices a guest's cgroup may use: the five of `dev`, wherever a node for another may lie.
//!
//! Called by `container::create` once the container is made. An image's layers may hold device
//! nodes and libcontainer adds rules of its own (the console, tunnels), so the last word is said
//! here. On version 2 libcontainer's rules need libbpf and libelf, C libraries that this program
//! has no other use for; five devices are a program of fifteen instructions.
#![allow(unsafe_code)]

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use crate::cgroup::{self, Version};

/// Major number of the memory devices.
const MAJOR: i32 = 1;
/// null, zero, full, random, urandom.
const MINORS: [i32; 5] = [3, 5, 7, 8, 9];

/// The fence could not be put up.
#[derive(Debug, thiserror::Error)]
#[error("confine the container to its five devices: {act}: {source}")]
pub(crate) struct DevicesError {
    act: String,
    source: std::io::Error,
}

/// Confines the cgroup of process `pid`.
pub(crate) fn confine(pid: i32, version: Version) -> Result<(), DevicesError> {
    let directory = cgroup::directory(pid, "devices").map_err(|source| DevicesError {
        act: "find its cgroup".to_owned(),
        source,
    })?;
    match version {
        Version::V1 => by_rules(&directory),
        Version::V2 => by_program(&directory),
    }
}

/// Version 1: rules in files (cgroups-v1/devices in the kernel's documentation).
fn by_rules(directory: &Path) -> Result<(), DevicesError> {
    let write = |file: &str, rule: String| {
        let path = directory.join(file);
        std::fs::write(&path, &rule).map_err(|source| DevicesError {
            act: format!("write {rule:?} to {}", path.display()),
            source,
        })
    };
    write("devices.deny", "a".to_owned())?;
    MINORS
        .iter()
        .try_for_each(|minor| write("devices.allow", format!("c {MAJOR}:{minor} rwm")))
}

/// Version 2: a BPF program that the kernel asks (`BPF_PROG_TYPE_CGROUP_DEVICE`, bpf(2)).
fn by_program(directory: &Path) -> Result<(), DevicesError> {
    let error = |act: &str| {
        let act = act.to_owned();
        move |source| DevicesError { act, source }
    };
    let cgroup = File::open(directory).map_err(error("open its cgroup"))?;
    let program = load(&program()).map_err(error("load the device filter"))?;
    attach(&program, &cgroup).map_err(error("attach the device filter"))
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// linux/bpf_common.h and linux/bpf.h.
const LOAD_U32: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x57; // BPF_ALU64 | BPF_AND | BPF_K
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_UNEQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
const CHARACTER_DEVICE: i32 = 2; // BPF_DEVCG_DEV_CHAR
const PROG_LOAD: libc::c_int = 5; // BPF_PROG_LOAD
const PROG_ATTACH: libc::c_int = 8; // BPF_PROG_ATTACH
const TYPE_CGROUP_DEVICE: u32 = 15; // BPF_PROG_TYPE_CGROUP_DEVICE
const ATTACH_CGROUP_DEVICE: u32 = 6; // BPF_CGROUP_DEVICE
const ALLOW_MULTI: u32 = 2; // BPF_F_ALLOW_MULTI: the ancestors' and systemd's filters hold too

/// Allows a character device with our major and one of our minors, denies the rest.
fn program() -> Vec<Instruction> {
    let on = |code, registers, offset, immediate| Instruction {
        code,
        registers,
        offset,
        immediate,
    };
    let minors = MINORS.len() as i16;
    let mut code = vec![
        // r1 points to struct bpf_cgroup_dev_ctx { access_type, major, minor }.
        on(LOAD_U32, 0x12, 0, 0), // r2 = access_type, the device's type in the lower half
        on(AND, 0x02, 0, 0xffff),
        on(JUMP_UNEQUAL, 0x02, 3 + minors, CHARACTER_DEVICE),
        on(LOAD_U32, 0x12, 4, 0), // r2 = major
        on(JUMP_UNEQUAL, 0x02, 1 + minors, MAJOR),
        on(LOAD_U32, 0x12, 8, 0), // r2 = minor
    ];
    for (i, minor) in (0..).zip(MINORS) {
        // Over the remaining comparisons and the two instructions that deny.
        code.push(on(JUMP_EQUAL, 0x02, minors - 1 - i + 2, minor));
    }
    code.extend([
        on(SET, 0x00, 0, 0),
        on(EXIT, 0, 0, 0),
        on(SET, 0x00, 0, 1),
        on(EXIT, 0, 0, 0),
    ]);
    code
}

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that is used here.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> std::io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(std::io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let fd = bpf(PROG_LOAD, &attributes)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(program: &OwnedFd, cgroup: &File) -> std::io::Result<()> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attributes).map(|_| ())
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> std::io::Result<RawFd> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the size that is passed along; the
    // kernel takes the rest for zero. What it points to lives until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for what no test can have a device of.
    fn allows(kind: i32, major: i32, minor: i32) -> bool {
        const READ: i32 = 2 << 16;
        let context = [READ | kind, major, minor];
        let (mut registers, mut at) = ([0_i64; 16], 0_i16);
        let code = program();
        loop {
            let step = code[usize::try_from(at).expect("forward")];
            let to = usize::from(step.registers & 15);
            at += 1;
            match step.code {
                LOAD_U32 => {
                    registers[to] = context[usize::try_from(step.offset / 4).expect("in")].into();
                }
                AND => registers[to] &= i64::from(step.immediate),
                SET => registers[to] = step.immediate.into(),
                JUMP_EQUAL if registers[to] == i64::from(step.immediate) => at += step.offset,
                JUMP_UNEQUAL if registers[to] != i64::from(step.immediate) => at += step.offset,
                EXIT => return registers[0] == 1,
                _ => {}
            }
        }
    }

    #[test]
    fn five_devices_and_no_other() {
        for minor in 0..=255 {
            assert_eq!(
                allows(CHARACTER_DEVICE, 1, minor),
                MINORS.contains(&minor),
                "{minor}"
            );
            assert!(!allows(1, 1, minor), "block device 1:{minor}");
            assert!(!allows(CHARACTER_DEVICE, 5, minor), "terminal 5:{minor}");
        }
        assert!(!allows(CHARACTER_DEVICE, 10, 200), "tunnel");
        assert!(!allows(1, 8, 0), "disk");
    }

    #[test]
    fn the_kernel_takes_the_program() {
        load(&program()).expect("needs root and a kernel with cgroup BPF");
    }
}
