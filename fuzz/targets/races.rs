//! A guest's paths, while another process swaps symlinks for directories beneath them and moves
//! directories out of the container: what it opens is never a file outside.
#![no_main]

use std::fs::{self, create_dir_all, rename};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use wasm_interp_fuzz::contained::SECRET;
use wasm_interp_fuzz::host::{call, guest};
use wasm_interp_fuzz::{contained, planted};
use wasm_interp_wasi::LateMounts;

/// Parts of a path. Two of them change their meaning all the time, and `moved` its place.
#[derive(Clone, Copy, Debug, arbitrary::Arbitrary)]
enum Part {
    Swapped,
    Link,
    Moved,
    Deep,
    Up,
    Secret,
    Outside,
}

#[derive(Clone, Debug, arbitrary::Arbitrary)]
enum Step {
    /// Opens a directory, to start from later.
    Directory(Vec<Part>),
    Read(Vec<Part>),
    Write(Vec<Part>),
    Rename(Vec<Part>, Vec<Part>),
    Link(Vec<Part>, Vec<Part>),
}

#[derive(Debug, arbitrary::Arbitrary)]
struct Input {
    checked: bool,
    steps: Vec<Step>,
}

const ROUNDS: usize = 20;
const READ: u64 = 1 << 1 | 1 << 14;
const WRITE: u64 = 1 << 6;

fn path(parts: &[Part]) -> Vec<u8> {
    let names: Vec<&str> = parts
        .iter()
        .take(8)
        .map(|part| match part {
            Part::Swapped => "swapped",
            Part::Link => "link",
            Part::Moved => "moved",
            Part::Deep => "deep",
            Part::Up => "..",
            Part::Secret => "secret",
            Part::Outside => "outside",
        })
        .collect();
    names.join("/").into_bytes()
}

/// One guest, and how often it came through a directory that was moved out at that moment.
fn steps(input: &Input) -> usize {
    let mut memory = vec![0; 1 << 16];
    let late_mounts = if input.checked {
        LateMounts::Checked(|_| false)
    } else {
        LateMounts::Impossible
    };
    let mut guest = guest(late_mounts);
    let mut directories = vec![3_u64];
    let mut opened = 0;
    let put = |memory: &mut [u8], at: u64, parts: &[Part]| -> (u64, u64) {
        let text = path(parts);
        memory[at as usize..at as usize + text.len()].copy_from_slice(&text);
        (at, text.len() as u64)
    };
    for round in 0..ROUNDS {
        for step in &input.steps {
            let at = directories[round % directories.len()];
            match step {
                Step::Directory(parts) | Step::Read(parts) | Step::Write(parts) => {
                    let (text, length) = put(&mut memory, 0x100, parts);
                    let (flags, rights) = match step {
                        Step::Directory(_) => (2, READ),
                        Step::Read(_) => (0, READ),
                        _ => (1, WRITE),
                    };
                    let all = [at, 1, text, length, flags, rights, 0, 0, 0];
                    if call(&mut guest, &mut memory, "path_open", &all) != 0 {
                        continue;
                    }
                    let fd = u64::from(u32::from_le_bytes(memory[..4].try_into().expect("four")));
                    if flags == 2 && directories.len() < 8 {
                        directories.push(fd);
                        continue;
                    }
                    // Reads to, or writes from, an iovec at 16 of 16 bytes at 64.
                    memory[16..24].copy_from_slice(&[64, 0, 0, 0, 16, 0, 0, 0]);
                    let function = if rights == WRITE {
                        "fd_write"
                    } else {
                        "fd_read"
                    };
                    memory[64..80].fill(b'!');
                    let all = [fd, 16, 1, 8, 0, 0, 0, 0, 0];
                    if call(&mut guest, &mut memory, function, &all) == 0 && rights == READ {
                        assert!(!memory[64..80].starts_with(SECRET.as_bytes()), "{step:?}");
                        opened += usize::from(at != 3);
                    }
                    call(
                        &mut guest,
                        &mut memory,
                        "fd_close",
                        &[fd, 0, 0, 0, 0, 0, 0, 0, 0],
                    );
                }
                Step::Rename(from, to) | Step::Link(from, to) => {
                    let (from, from_length) = put(&mut memory, 0x100, from);
                    let (to, to_length) = put(&mut memory, 0x200, to);
                    if matches!(step, Step::Rename(..)) {
                        let all = [at, from, from_length, 3, to, to_length, 0, 0, 0];
                        call(&mut guest, &mut memory, "path_rename", &all);
                    } else {
                        let all = [at, 1, from, from_length, 3, to, to_length, 0, 0];
                        call(&mut guest, &mut memory, "path_link", &all);
                    }
                }
            }
        }
    }
    opened
}

/// Swaps and moves until it is told to end. What the guest has renamed is no longer there to be moved.
fn disturb(files: &Path, outside: &Path, end: &AtomicBool, moves: &AtomicUsize) {
    let (swapped, link) = (files.join("swapped"), files.join("link"));
    let (inside, away) = (files.join("moved"), outside.join("moved"));
    while !end.load(Ordering::Relaxed) {
        let _ = renameat_with(CWD, &swapped, CWD, &link, RenameFlags::EXCHANGE);
        if rename(&inside, &away).is_ok() {
            moves.fetch_add(1, Ordering::Relaxed);
            thread::yield_now();
            let _ = rename(&away, &inside);
        }
    }
}

fuzz_target!(|input: Input| {
    contained::reset();
    let (files, outside) = (contained::files(), contained::outside());
    for directory in ["swapped/deep", "moved/deep"] {
        create_dir_all(files.join(directory)).expect("a directory");
        fs::write(files.join(directory).join("file"), "inside").expect("a file");
        fs::write(files.join(directory).join("secret"), "inside").expect("a file");
    }
    symlink("../../../outside", files.join("link")).expect("a link");
    let (end, moves) = (AtomicBool::new(false), AtomicUsize::new(0));
    let opened = thread::scope(|scope| {
        scope.spawn(|| disturb(&files, &outside, &end, &moves));
        let opened = contained::run_beside_others(|| steps(&input));
        end.store(true, Ordering::Relaxed);
        opened
    });
    let others = fs::read_dir(&outside).expect("a directory");
    let others = others.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name != "secret" && name != "moved"
    });
    assert_eq!(others.count(), 0, "a file was made outside");
    planted(opened > 0 && moves.into_inner() > 0);
});
