//! The system interface during `preinit`: that of guests, but that every answer is the same on every machine.
//!
//! What a module keeps in memory of an answer is in the image: the bytes of an image must not depend on the
//! clock, the kernel's random numbers, the numbers of inodes or the order of a directory. A module that wants
//! random numbers or the time has to ask again at `resume`.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use wasm_interp_wasi::errno::Errno;
use wasm_interp_wasi::imports::{POSIX, PREVIEW1};
use wasm_interp_wasi::{Guest, abi, add_to_linker};
use wasmtime::{Caller, Linker, Memory, Result, bail};
use wiggle::GuestMemory;

/// Every clock stands still here: 2020-01-01, in nanoseconds.
const TIME: u64 = 1_577_836_800_000_000_000;

/// Bytes of preview 1's `dirent` before the name.
const DIRENT: usize = 24;

/// Adds the host functions.
pub(crate) fn add(linker: &mut Linker<Guest>) -> Result<()> {
    add_to_linker(linker, |guest: &mut Guest| guest)?;
    linker.allow_shadowing(true);
    linker.func_wrap(
        PREVIEW1.module,
        "clock_time_get",
        |mut caller: Caller<'_, Guest>, _clock: i32, _precision: i64, time: i32| {
            let (bytes, _) = enter(&mut caller)?;
            Ok(answer(put(bytes, time, &TIME.to_le_bytes())))
        },
    )?;
    linker.func_wrap(
        PREVIEW1.module,
        "random_get",
        |mut caller: Caller<'_, Guest>, buffer: i32, length: i32| {
            let (bytes, _) = enter(&mut caller)?;
            let same = (0..=250).cycle().take(index(length)).collect::<Vec<u8>>();
            Ok(answer(put(bytes, buffer, &same)))
        },
    )?;
    linker.func_wrap(
        PREVIEW1.module,
        "fd_filestat_get",
        |mut caller: Caller<'_, Guest>, fd: i32, stat: i32| {
            about_a_file(&mut caller, stat, FILESTAT, |guest, memory| {
                abi::wasi_snapshot_preview1::fd_filestat_get(guest, memory, fd, stat)
            })
        },
    )?;
    linker.func_wrap(
        PREVIEW1.module,
        "path_filestat_get",
        |mut caller: Caller<'_, Guest>, fd: i32, flags: i32, path: i32, length: i32, stat: i32| {
            about_a_file(&mut caller, stat, FILESTAT, |guest, memory| {
                abi::wasi_snapshot_preview1::path_filestat_get(
                    guest, memory, fd, flags, path, length, stat,
                )
            })
        },
    )?;
    linker.func_wrap(
        PREVIEW1.module,
        "fd_readdir",
        |mut caller: Caller<'_, Guest>,
         fd: i32,
         buffer: i32,
         length: i32,
         cookie: i64,
         used: i32| {
            let (bytes, guest) = enter(&mut caller)?;
            Ok(answer(list(bytes, guest, fd, buffer, length, cookie, used)))
        },
    )?;
    linker.func_wrap(
        POSIX.module,
        "fstat",
        |mut caller: Caller<'_, Guest>, fd: i32, stat: i32| {
            about_a_file(&mut caller, stat, STAT, |guest, memory| {
                abi::wasm_interp_posix_v1::fstat(guest, memory, fd, stat)
            })
        },
    )?;
    linker.func_wrap(
        POSIX.module,
        "fstatat",
        |mut caller: Caller<'_, Guest>, fd: i32, flags: i32, path: i32, length: i32, stat: i32| {
            about_a_file(&mut caller, stat, STAT, |guest, memory| {
                abi::wasm_interp_posix_v1::fstatat(guest, memory, fd, flags, path, length, stat)
            })
        },
    )?;
    // The host of a container would know nothing of it.
    linker.func_wrap(
        POSIX.module,
        "signal_register",
        |_pending: i32, _mask: i32| -> Result<i32> {
            bail!("it handles signals already: let it do so at resume")
        },
    )?;
    Ok(())
}

/// Which bytes of an answer about a file are of this machine, and what they are everywhere: offset, and the value of
/// eight bytes.
type AnswerFields = &'static [(usize, u64)];

/// Preview 1's `filestat`: dev, ino, nlink, atim, mtim, ctim.
const FILESTAT: AnswerFields = &[(0, 1), (8, 1), (24, 1), (40, TIME), (48, TIME), (56, TIME)];

/// `stat` of our own interface.
const STAT: AnswerFields = &[
    // dev, ino, nlink, uid and gid are in one part of eight bytes with others: mode stays.
    (0, 1),
    (8, 1),
    (16, 1),
    // blksize is the upper half; gid is 0.
    (32, 4096 << 32),
    // blocks
    (56, 0),
    // The seconds and nanoseconds of three times.
    (64, TIME / 1_000_000_000),
    (72, 0),
    (80, TIME / 1_000_000_000),
    (88, 0),
    (96, TIME / 1_000_000_000),
    (104, 0),
];

/// The memory of the module that calls, and its context.
fn enter<'a>(caller: &'a mut Caller<'_, Guest>) -> Result<(&'a mut [u8], &'a mut Guest)> {
    let memory = caller
        .get_export("memory")
        .and_then(wasmtime::Extern::into_memory);
    let Some(memory): Option<Memory> = memory else {
        bail!("it exports no memory");
    };
    Ok(memory.data_and_store_mut(caller))
}

fn index(value: i32) -> usize {
    // What Wasm calls an i32 is an address or a length here.
    usize::try_from(value.cast_unsigned()).unwrap_or(usize::MAX)
}

fn put(bytes: &mut [u8], at: i32, value: &[u8]) -> std::result::Result<(), Errno> {
    let at = index(at);
    let end = at.checked_add(value.len()).ok_or(Errno::Fault)?;
    bytes
        .get_mut(at..end)
        .ok_or(Errno::Fault)?
        .copy_from_slice(value);
    Ok(())
}

fn answer(result: std::result::Result<(), Errno>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => i32::from(u16::from(error)),
    }
}

/// Calls a function that answers at `stat` about a file, and makes the answer that of every machine.
fn about_a_file(
    caller: &mut Caller<'_, Guest>,
    stat: i32,
    fields: AnswerFields,
    call: impl FnOnce(&mut Guest, &mut GuestMemory<'_>) -> Result<i32>,
) -> Result<i32> {
    let (bytes, guest) = enter(caller)?;
    let code = call(guest, &mut GuestMemory::Unshared(&mut *bytes))?;
    if code != 0 {
        return Ok(code);
    }
    Ok(answer(fields.iter().try_for_each(|(offset, value)| {
        put(
            &mut bytes[index(stat)..],
            i32::try_from(*offset).unwrap_or(0),
            &value.to_le_bytes(),
        )
    })))
}

/// `fd_readdir`, in the order of the names' bytes.
fn list(
    bytes: &mut [u8],
    guest: &Guest,
    fd: i32,
    buffer: i32,
    length: i32,
    cookie: i64,
    used: i32,
) -> std::result::Result<(), Errno> {
    let directory = guest.descriptors.get(fd.cast_unsigned().into())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(directory.as_fd(), c".", flags, Mode::empty())?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(opened)? {
        let entry = entry?;
        entries.push((entry.file_name().to_owned(), entry.file_type()));
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    let mut answer = Vec::new();
    let first = usize::try_from(cookie).unwrap_or(usize::MAX);
    let room = index(length);
    for (number, (name, kind)) in entries.iter().enumerate().skip(first) {
        if answer.len() >= room {
            break;
        }
        let name = name.to_bytes();
        let mut header = [0; DIRENT];
        header[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        header[8..16].copy_from_slice(&1u64.to_le_bytes());
        let name_length = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
        header[16..20].copy_from_slice(&name_length.to_le_bytes());
        header[20] = kind_of(*kind);
        answer.extend_from_slice(&header);
        answer.extend_from_slice(name);
    }
    answer.truncate(room);
    put(bytes, buffer, &answer)?;
    let length = u32::try_from(answer.len()).map_err(|_| Errno::Overflow)?;
    put(bytes, used, &length.to_le_bytes())
}

/// Preview 1's `filetype`.
fn kind_of(kind: FileType) -> u8 {
    match kind {
        FileType::BlockDevice => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 3,
        FileType::RegularFile => 4,
        FileType::Symlink => 7,
        _ => 0,
    }
}
