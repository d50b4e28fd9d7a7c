//! perf_event_open(2) for one process: the stacks that the kernel sampled of it, out of the ring that the kernel shares
//! with this process. It does not know what the addresses are.
//!
//! Neither nix nor rustix has the call. `perf_event_attr` is the structure's first version, 64 bytes of
//! `include/uapi/linux/perf_event.h`, which every kernel takes.
//!
//! This is a leaf file with unsafe code.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Samples per second of CPU time. Not 1,000: what a program does each millisecond would always or never be seen.
pub(super) const RATE: u64 = 999;
/// Pages of the ring: half a second of the deepest stacks.
const PAGES: usize = 128;
/// The most frames of a stack, where the kernel does not say.
const DEFAULT_DEPTH: usize = 127;
const DEPTH_FILE: &str = "/proc/sys/kernel/perf_event_max_stack";

const TYPE_SOFTWARE: u32 = 1;
const COUNT_SW_CPU_CLOCK: u64 = 0;
const SAMPLE_CALLCHAIN: u64 = 1 << 5;
const FLAG_EXCLUDE_HV: u64 = 1 << 6;
/// `wakeup` is a number of bytes.
const FLAG_WATERMARK: u64 = 1 << 14;
/// The program's part of a stack alone.
const FLAG_EXCLUDE_CALLCHAIN_KERNEL: u64 = 1 << 21;
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// Any CPU, no group.
const NONE: c_int = -1;

const RECORD_LOST: u32 = 2;
const RECORD_THROTTLE: u32 = 5;
const RECORD_SAMPLE: u32 = 9;
const MISC_CPUMODE: u16 = 7;
const MISC_KERNEL: u16 = 1;
/// Addresses from here on are marks between the parts of a stack.
const CONTEXT_MAX: u64 = -4095_i64 as u64;

/// `perf_event_attr` up to `config1`: `PERF_ATTR_SIZE_VER0`.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    /// In nanoseconds for this event.
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint: u32,
    config1: u64,
}

/// What the kernel wrote into the ring.
pub(super) enum Record<'a> {
    /// One sample.
    Sample {
        /// What the CPU ran.
        mode: Mode,
        /// The stack's addresses, from the innermost frame outwards: the instruction itself, then return addresses.
        stack: &'a [u64],
    },
    /// So many samples did not fit into the ring.
    Lost(u64),
    /// The kernel took fewer samples for a while.
    Throttled,
}

/// What the CPU ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Code of the process.
    User,
    /// The kernel, called by the process.
    Kernel,
}

/// Whether the sampled process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampled {
    Runs,
    Ended,
}

/// The event and its ring.
pub(super) struct Sampler {
    event: OwnedFd,
    ring: NonNull<u8>,
    page: usize,
    /// Frames that the kernel writes of a stack, at most.
    depth: usize,
    /// Of one record, which may be in two parts in the ring.
    record: Vec<u8>,
    stack: Vec<u64>,
}

// SAFETY: the ring is this value's own mapping, and nothing else in this process refers to it.
unsafe impl Send for Sampler {}

impl Sampler {
    /// Samples the thread `pid` from now on, each 1/[`RATE`] second of its CPU time.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or(Errno::EINVAL)?;
        let attributes = Attributes {
            kind: TYPE_SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: COUNT_SW_CPU_CLOCK,
            period: 1_000_000_000 / RATE,
            sample_type: SAMPLE_CALLCHAIN,
            read_format: 0,
            flags: FLAG_EXCLUDE_HV | FLAG_WATERMARK | FLAG_EXCLUDE_CALLCHAIN_KERNEL,
            wakeup: (PAGES * page / 4) as u32,
            breakpoint: 0,
            config1: 0,
        };
        // SAFETY: `attributes` is valid for reads of the size that it names, and for the write of that size that the
        // kernel does if it knows another; the call keeps no pointer.
        let number = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                pid.as_raw(),
                NONE,
                NONE,
                FLAG_FD_CLOEXEC,
            )
        };
        let number = c_int::try_from(Errno::result(number)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
        let event = unsafe { OwnedFd::from_raw_fd(number) };
        let length = NonZeroUsize::new((1 + PAGES) * page).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let ring = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &event, 0) }?;
        Ok(Self {
            event,
            ring: ring.cast(),
            page,
            depth: depth(),
            record: Vec::new(),
            stack: Vec::new(),
        })
    }

    /// Frames that the kernel writes of a stack, at most; the outermost of a deeper one are missing.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Waits until there is something to read, the process has ended, or `longest` is over.
    pub(super) fn wait(&self, longest: Duration) -> io::Result<Sampled> {
        let mut events = [PollFd::new(self.event.as_fd(), PollFlags::POLLIN)];
        let longest = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
        match poll(&mut events, longest) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = events[0]
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLHUP));
        Ok(if ended { Sampled::Ended } else { Sampled::Runs })
    }

    /// Takes what is in the ring.
    pub(super) fn read(&mut self, record: &mut dyn FnMut(Record<'_>)) {
        let capacity = (PAGES * self.page) as u64;
        // The kernel writes the head after the data in front of it, and reads the tail before it writes over them.
        let head = self.position(HEAD).load(Ordering::Acquire);
        let mut tail = self.position(TAIL).load(Ordering::Relaxed);
        while tail < head {
            let mut header = [0; HEADER];
            self.copy(tail, capacity, &mut header);
            let [a, b, c, d, e, f, g, h] = header;
            let kind = u32::from_ne_bytes([a, b, c, d]);
            let misc = u16::from_ne_bytes([e, f]);
            let size = u64::from(u16::from_ne_bytes([g, h]));
            if size < HEADER as u64 || size > head - tail {
                // Not what the kernel writes; what follows cannot be told apart.
                tail = head;
                break;
            }
            let mut bytes = std::mem::take(&mut self.record);
            bytes.resize(size as usize - HEADER, 0);
            self.copy(tail + HEADER as u64, capacity, &mut bytes);
            tail += size;
            self.parse(kind, misc, &bytes, record);
            self.record = bytes;
        }
        self.position(TAIL).store(tail, Ordering::Release);
    }

    fn parse(&mut self, kind: u32, misc: u16, bytes: &[u8], record: &mut dyn FnMut(Record<'_>)) {
        let mut words = bytes.as_chunks().0.iter().copied().map(u64::from_ne_bytes);
        match kind {
            RECORD_SAMPLE => {
                let count = words.next().unwrap_or(0);
                self.stack.clear();
                let frames = words.take(usize::try_from(count).unwrap_or(usize::MAX));
                self.stack.extend(frames.filter(|word| *word < CONTEXT_MAX));
                let mode = match misc & MISC_CPUMODE {
                    MISC_KERNEL => Mode::Kernel,
                    _ => Mode::User,
                };
                record(Record::Sample {
                    mode,
                    stack: &self.stack,
                });
            }
            // The event's number, then how many.
            RECORD_LOST => record(Record::Lost(words.nth(1).unwrap_or(1))),
            RECORD_THROTTLE => record(Record::Throttled),
            _ => {}
        }
    }

    /// A position in the ring's data, as a number that only grows.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: `perf_event_mmap_page` is at the mapping's beginning, and both positions are aligned words in it,
        // which live as long as this value. The kernel writes to the one and reads the other, each as a whole.
        unsafe { AtomicU64::from_ptr(self.ring.as_ptr().add(offset).cast()) }
    }

    /// Copies data out of the ring, from a position on.
    fn copy(&self, from: u64, capacity: u64, to: &mut [u8]) {
        let from = (from % capacity) as usize;
        let first = to.len().min(capacity as usize - from);
        let (begin, rest) = to.split_at_mut(first);
        for (offset, part) in [(from, begin), (0, rest)] {
            // SAFETY: `offset` and the part's length are within the data, which follow the first page. The caller
            // asks for what is between tail and head, where the kernel does not write.
            unsafe {
                let data = self.ring.as_ptr().add(self.page + offset);
                std::ptr::copy_nonoverlapping(data, part.as_mut_ptr(), part.len());
            }
        }
    }
}

/// Offsets of `data_head` and `data_tail` in `perf_event_mmap_page`.
const HEAD: usize = 1024;
const TAIL: usize = 1032;
/// `perf_event_header`: type, misc, size.
const HEADER: usize = 8;

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made, to which nothing refers any more.
        let unmapped = unsafe { munmap(self.ring.cast(), (1 + PAGES) * self.page) };
        // It fails only for a range that is none.
        debug_assert_eq!(unmapped, Ok(()));
    }
}

fn depth() -> usize {
    let depth = fs::read_to_string(DEPTH_FILE).ok();
    depth
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(DEFAULT_DEPTH)
}
