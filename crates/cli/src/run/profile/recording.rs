//! A profile while it is taken: a thread reads the kernel's samples until the process ends, and adds each to the tree.

use std::fs::{self, File};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::unistd::Pid;
use thiserror::Error;

use super::perf::{Mode, Record, Sampled, Sampler};
use super::symbols::{CodeMapping, Symbols, SymbolsError};
use super::tree::{CallTree, Frame};

/// How often the thread looks whether it has to end.
const TURN: Duration = Duration::from_millis(100);

/// Why no profile can be taken.
#[derive(Debug, Error)]
pub(crate) enum RecordingError {
    #[error(
        "cannot profile the guest: perf_event_open: {source}; be root of the machine, or have \
         CAP_PERFMON (sysctl kernel.perf_event_paranoid says how much others may do). In a \
         container, its seccomp profile must allow perf_event_open too"
    )]
    Refused { source: io::Error },
    #[error(
        "cannot profile the guest: this kernel has no perf_event_open; use one with \
         CONFIG_PERF_EVENTS"
    )]
    NoEvents,
    #[error("cannot profile the guest: perf_event_open: {source}; run it without --profile")]
    Open { source: io::Error },
    #[error(
        "cannot profile the guest: the functions of its native code are unknown: {0}; run \
         wasm-interp cache verify"
    )]
    Symbols(#[from] SymbolsError),
    #[error(
        "cannot profile the guest: its native code is not among the mappings of its process \
         {pid}; run it without --profile, and report this"
    )]
    Unmapped { pid: i32 },
    #[error("cannot profile the guest: {path}: {source}; mount /proc")]
    Maps { path: String, source: io::Error },
    #[error("cannot profile the guest: cannot make a thread: {0}; raise the limit of processes")]
    Thread(#[source] io::Error),
    #[error("cannot read the samples of the profile: {0}")]
    Read(#[source] io::Error),
}

impl RecordingError {
    fn open(source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Refused { source },
            Some(libc::ENOSYS) => Self::NoEvents,
            _ => Self::Open { source },
        }
    }
}

/// The samples of a guest.
pub(in crate::run) struct CpuProfile {
    pub(super) tree: CallTree,
    pub(super) symbols: Symbols,
    /// Samples that the kernel could not hand over.
    pub(super) lost: u64,
    /// How often the kernel took fewer samples.
    pub(super) throttled: u64,
}

/// A thread that reads samples.
pub(in crate::run) struct Recording {
    reader: JoinHandle<io::Result<CpuProfile>>,
    ends: Arc<AtomicBool>,
}

impl Recording {
    /// Samples the init process of a created container, whose native code is `artifact`, from now on.
    pub(in crate::run) fn begin(init: Pid, artifact: &File) -> Result<Self, RecordingError> {
        let symbols = Symbols::of(artifact)?;
        let path = format!("/proc/{init}/maps");
        let maps =
            fs::read_to_string(&path).and_then(|maps| CodeMapping::of(&symbols, artifact, &maps));
        let mapping = match maps {
            Ok(Some(mapping)) => mapping,
            Ok(None) => return Err(RecordingError::Unmapped { pid: init.as_raw() }),
            Err(source) => return Err(RecordingError::Maps { path, source }),
        };
        let sampler = Sampler::open(init).map_err(RecordingError::open)?;
        let ends = Arc::new(AtomicBool::new(false));
        let reader = {
            let ends = Arc::clone(&ends);
            thread::Builder::new()
                .name("profile".to_owned())
                .spawn(move || read(sampler, symbols, &mapping, &ends))
                .map_err(RecordingError::Thread)?
        };
        Ok(Self { reader, ends })
    }

    /// What was sampled. For when the process has ended, or is no longer of interest.
    pub(in crate::run) fn end(self) -> Result<CpuProfile, RecordingError> {
        self.ends.store(true, Ordering::Release);
        match self.reader.join() {
            Ok(profile) => profile.map_err(RecordingError::Read),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn read(
    mut sampler: Sampler,
    symbols: Symbols,
    mapping: &CodeMapping,
    ends: &AtomicBool,
) -> io::Result<CpuProfile> {
    let mut profile = CpuProfile {
        tree: CallTree::new(),
        symbols,
        lost: 0,
        throttled: 0,
    };
    let depth = sampler.depth();
    let mut frames = Vec::new();
    loop {
        // Asked first: what was sampled until then is read.
        let ended = ends.load(Ordering::Acquire);
        let sampled = if ended {
            Sampled::Ended
        } else {
            sampler.wait(TURN)?
        };
        sampler.read(&mut |record| match record {
            Record::Sample { mode, stack } => {
                let symbols = &mut profile.symbols;
                let mut frame = |address| symbols.frame(mapping.offset(address)?);
                fold(mode, stack, depth, &mut frame, &mut frames);
                profile.tree.add(&frames);
            }
            Record::Lost(samples) => profile.lost += samples,
            Record::Throttled => profile.throttled += 1,
        });
        if sampled == Sampled::Ended {
            return Ok(profile);
        }
    }
}

/// Turns the addresses of a stack, the innermost first, into frames, the outermost first. `frame` knows those of the
/// guest's native code.
///
/// What is around the guest's outermost frame is left out: it is the same for all samples, and its frames are not to be
/// trusted, because the C library keeps no frame pointers.
fn fold(
    mode: Mode,
    stack: &[u64],
    depth: usize,
    frame: &mut dyn FnMut(u64) -> Option<Frame>,
    frames: &mut Vec<Frame>,
) {
    frames.clear();
    let mut of_guest = 0;
    for (index, address) in stack.iter().enumerate() {
        // The call is before the place to which it returns.
        let address = address.saturating_sub(u64::from(index > 0));
        let frame = frame(address).unwrap_or(Frame::Host);
        if frame != Frame::Host || frames.last() != Some(&Frame::Host) {
            frames.push(frame);
        }
        if frame != Frame::Host {
            of_guest = frames.len();
        }
    }
    let is_cut = stack.len() >= depth && of_guest == frames.len();
    frames.truncate(of_guest);
    if frames.is_empty() {
        frames.push(Frame::Host);
    }
    if is_cut && of_guest > 0 {
        frames.push(Frame::Cut);
    }
    frames.reverse();
    if mode == Mode::Kernel {
        frames.push(Frame::Kernel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPTH: usize = 5;

    /// Addresses below 100 are the guest's: ten for each function, the last ten for none.
    fn folded(mode: Mode, stack: &[u64]) -> Vec<Frame> {
        let mut frame = |address| match address {
            0..90 => Some(Frame::Guest(address as u32 / 10)),
            90..100 => Some(Frame::Unknown),
            _ => None,
        };
        let mut frames = vec![Frame::Cut];
        fold(mode, stack, DEPTH, &mut frame, &mut frames);
        frames
    }

    #[test]
    fn outermost_frame_is_first_and_what_is_around_it_left_out() {
        let frames = folded(Mode::User, &[15, 25, 1000, 2000]);
        assert_eq!(frames, [Frame::Guest(2), Frame::Guest(1)]);
    }

    #[test]
    fn return_address_belongs_to_the_call_before_it() {
        // 20 is the first instruction of the next function, for a call that never returns.
        let frames = folded(Mode::User, &[20, 20]);
        assert_eq!(frames, [Frame::Guest(1), Frame::Guest(2)]);
    }

    #[test]
    fn frames_of_the_host_are_one() {
        let frames = folded(Mode::User, &[1000, 2000, 15, 3000]);
        assert_eq!(frames, [Frame::Guest(1), Frame::Host]);
        let frames = folded(Mode::User, &[15, 1000, 2000, 35]);
        assert_eq!(frames, [Frame::Guest(3), Frame::Host, Frame::Guest(1)]);
    }

    #[test]
    fn stack_without_a_guest_is_the_hosts() {
        assert_eq!(folded(Mode::User, &[1000, 2000]), [Frame::Host]);
        assert_eq!(folded(Mode::User, &[]), [Frame::Host]);
    }

    #[test]
    fn kernel_is_called_by_the_innermost_frame() {
        let frames = folded(Mode::Kernel, &[1000, 15]);
        assert_eq!(frames, [Frame::Guest(1), Frame::Host, Frame::Kernel]);
        // A page fault.
        let frames = folded(Mode::Kernel, &[15]);
        assert_eq!(frames, [Frame::Guest(1), Frame::Kernel]);
        assert_eq!(folded(Mode::Kernel, &[]), [Frame::Host, Frame::Kernel]);
    }

    #[test]
    fn code_without_a_function_is_unknown() {
        let frames = folded(Mode::User, &[95, 15]);
        assert_eq!(frames, [Frame::Guest(1), Frame::Unknown]);
    }

    #[test]
    fn stack_that_the_kernel_cut_says_so() {
        let frames = folded(Mode::User, &[15; DEPTH]);
        assert_eq!(frames[0], Frame::Cut);
        assert_eq!(frames.len(), DEPTH + 1);
        // As deep, and whole.
        let frames = folded(Mode::User, &[15, 15, 15, 15, 1000]);
        assert_eq!(frames, [Frame::Guest(1); 4]);
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (number, way_out) in [
            (libc::EPERM, "CAP_PERFMON"),
            (libc::EACCES, "kernel.perf_event_paranoid"),
            (libc::ENOSYS, "CONFIG_PERF_EVENTS"),
            (libc::EMFILE, "without --profile"),
        ] {
            let error = RecordingError::open(io::Error::from_raw_os_error(number)).to_string();
            assert!(error.contains(way_out), "{error}");
        }
    }
}
