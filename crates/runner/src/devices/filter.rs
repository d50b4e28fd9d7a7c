//! The device rules of a cgroup of version 2: a BPF program that the kernel runs at each access.
//!
//! Called by the module above. A leaf that knows `BPF_PROG_TYPE_CGROUP_DEVICE` of bpf(2).
#![allow(unsafe_code)]

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use super::{
    error::DevicesError,
    rules::{DeviceAccess, DeviceKind, DeviceNumbers, DeviceRules, Verdict},
};

/// Attaches a program that decides by `rules` to the cgroup.
pub(super) fn attach(directory: &Path, rules: &DeviceRules) -> Result<(), DevicesError> {
    let error = |act: &str| {
        let act = act.to_owned();
        move |source| DevicesError { act, source }
    };
    let cgroup = File::open(directory).map_err(error("open its cgroup"))?;
    let program = load(&program(rules)).map_err(error("load the device filter"))?;
    attach_to(&program, &cgroup).map_err(error("attach the device filter"))
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
const SHIFT_RIGHT: u8 = 0x77; // BPF_ALU64 | BPF_RSH | BPF_K
const COPY: u8 = 0xbf; // BPF_ALU64 | BPF_MOV | BPF_X
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const JUMP_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_UNEQUAL: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
const BLOCK_DEVICE: i32 = 1; // BPF_DEVCG_DEV_BLOCK
const CHARACTER_DEVICE: i32 = 2; // BPF_DEVCG_DEV_CHAR
const PROG_LOAD: libc::c_int = 5; // BPF_PROG_LOAD
const PROG_ATTACH: libc::c_int = 8; // BPF_PROG_ATTACH
const TYPE_CGROUP_DEVICE: u32 = 15; // BPF_PROG_TYPE_CGROUP_DEVICE
const ATTACH_CGROUP_DEVICE: u32 = 6; // BPF_CGROUP_DEVICE
const ALLOW_MULTI: u32 = 2; // BPF_F_ALLOW_MULTI: the ancestors' and systemd's filters hold too

// The registers of the device's type, the access, the major and the minor number; the last is scratch.
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const WORK: u8 = 6;

impl Instruction {
    fn new(code: u8, registers: u8, offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }
}

/// The program for `rules`: the first exception that fits decides, as on version 1.
fn program(rules: &DeviceRules) -> Vec<Instruction> {
    let on = Instruction::new;
    let mut code = vec![
        // r1 points to struct bpf_cgroup_dev_ctx { access_type, major, minor }, whose first has the
        // device's type in the lower half and the access in the upper.
        on(LOAD_U32, 0x10 | TYPE, 0, 0),
        on(COPY, TYPE << 4 | ACCESS, 0, 0),
        on(AND, TYPE, 0, 0xffff),
        on(SHIFT_RIGHT, ACCESS, 0, 16),
        on(LOAD_U32, 0x10 | MAJOR, 4, 0),
        on(LOAD_U32, 0x10 | MINOR, 8, 0),
    ];
    for (devices, access) in &rules.exceptions {
        code.extend(exception(rules.default, devices, access));
    }
    code.extend(answer(rules.default));
    code
}

/// Answers for the devices of one exception, and leaves others to what follows.
fn exception(default: Verdict, devices: &DeviceNumbers, access: &DeviceAccess) -> Vec<Instruction> {
    let on = Instruction::new;
    let kind = match devices.kind {
        DeviceKind::Block => BLOCK_DEVICE,
        DeviceKind::Character => CHARACTER_DEVICE,
    };
    let numbers = [(MAJOR, devices.major), (MINOR, devices.minor)];
    let numbers: Vec<_> = numbers
        .into_iter()
        .filter_map(|(register, number)| Some((register, number?)))
        .collect();
    // Each jump goes over what is left of this exception: its tests, then five instructions.
    let mut left = 5 + numbers.len() as i16;
    let mut code = vec![on(JUMP_UNEQUAL, TYPE, left, kind)];
    for (register, number) in numbers {
        left -= 1;
        code.push(on(JUMP_UNEQUAL, register, left, number.cast_signed()));
    }
    code.push(on(COPY, ACCESS << 4 | WORK, 0, 0));
    match default {
        // Allowed if no other access is asked for.
        Verdict::Deny => {
            code.extend([
                on(AND, WORK, 0, i32::from(!access.0)),
                on(JUMP_UNEQUAL, WORK, 2, 0),
            ]);
            code.extend(answer(Verdict::Allow));
        }
        // Denied if any of this access is asked for.
        Verdict::Allow => {
            code.extend([
                on(AND, WORK, 0, i32::from(access.0)),
                on(JUMP_EQUAL, WORK, 2, 0),
            ]);
            code.extend(answer(Verdict::Deny));
        }
    }
    code
}

fn answer(verdict: Verdict) -> [Instruction; 2] {
    let value = i32::from(verdict == Verdict::Allow);
    [
        Instruction::new(SET, 0, 0, value),
        Instruction::new(EXIT, 0, 0, 0),
    ]
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
    // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach_to(program: &OwnedFd, cgroup: &File) -> std::io::Result<()> {
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
    use oci_spec::runtime::Spec;

    use super::{super::rules::tests::spec, *};

    const READ: u8 = DeviceAccess::READ;
    const WRITE: u8 = DeviceAccess::WRITE;

    /// Runs the program as the kernel would, for what no test can have a device of.
    fn allows(rules: &DeviceRules, access: u8, kind: i32, major: i32, minor: i32) -> bool {
        let context = [i32::from(access) << 16 | kind, major, minor];
        let (mut registers, mut at) = ([0_i64; 16], 0_i16);
        let code = program(rules);
        loop {
            let step = code[usize::try_from(at).expect("forward")];
            let to = usize::from(step.registers & 15);
            let value = i64::from(step.immediate);
            at += 1;
            match step.code {
                LOAD_U32 => {
                    registers[to] = context[usize::try_from(step.offset / 4).expect("in")].into();
                }
                COPY => registers[to] = registers[usize::from(step.registers >> 4)],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                JUMP_EQUAL if registers[to] == value => at += step.offset,
                JUMP_UNEQUAL if registers[to] != value => at += step.offset,
                JUMP_EQUAL | JUMP_UNEQUAL => {}
                EXIT => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn a_guest_has_five_devices_and_no_other() {
        let guest = DeviceRules::of_a_guest();
        let allows = |kind, major, minor| allows(&guest, READ, kind, major, minor);
        for minor in 0..=255 {
            assert_eq!(
                allows(CHARACTER_DEVICE, 1, minor),
                [3, 5, 7, 8, 9].contains(&minor),
                "{minor}"
            );
            assert!(!allows(BLOCK_DEVICE, 1, minor), "block device 1:{minor}");
            assert!(!allows(CHARACTER_DEVICE, 5, minor), "terminal 5:{minor}");
        }
        assert!(!allows(CHARACTER_DEVICE, 10, 200), "tunnel");
        assert!(!allows(BLOCK_DEVICE, 8, 0), "disk");
    }

    #[test]
    fn program_gets_the_devices_and_the_access_that_its_spec_allows() {
        let rules = DeviceRules::of_a_program(&spec(
            r#"{"allow":false}, {"allow":true,"type":"b","major":8,"access":"r"}"#,
        ));
        let allows = |access, kind, major, minor| allows(&rules, access, kind, major, minor);
        assert!(allows(READ, BLOCK_DEVICE, 8, 1));
        assert!(!allows(WRITE, BLOCK_DEVICE, 8, 1));
        assert!(!allows(READ | WRITE, BLOCK_DEVICE, 8, 1));
        assert!(!allows(READ, BLOCK_DEVICE, 9, 1));
        assert!(allows(DeviceAccess::MAKE, BLOCK_DEVICE, 9, 1));
        assert!(allows(READ | WRITE, CHARACTER_DEVICE, 1, 3), "null");
        assert!(allows(READ | WRITE, CHARACTER_DEVICE, 136, 7), "terminal");
        assert!(!allows(READ, CHARACTER_DEVICE, 10, 200), "tunnel");
    }

    #[test]
    fn privileged_program_gets_every_device_that_its_spec_does_not_deny() {
        let rules = DeviceRules::of_a_program(&spec(
            r#"{"allow":true}, {"allow":false,"type":"c","major":10,"minor":200,"access":"w"}"#,
        ));
        let allows = |access, kind, major, minor| allows(&rules, access, kind, major, minor);
        assert!(allows(READ | WRITE, BLOCK_DEVICE, 8, 0));
        assert!(allows(READ, CHARACTER_DEVICE, 10, 200));
        assert!(!allows(READ | WRITE, CHARACTER_DEVICE, 10, 200));
    }

    #[test]
    fn kernel_accepts_the_device_programs() {
        for rules in [
            DeviceRules::of_a_guest(),
            DeviceRules::of_a_program(&Spec::default()),
            DeviceRules::of_a_program(&spec(
                r#"{"allow":true}, {"allow":false,"type":"c","major":10,"minor":200}"#,
            )),
        ] {
            load(&program(&rules)).expect("needs root and a kernel with cgroup BPF");
        }
    }
}
