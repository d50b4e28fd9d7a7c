//! The ceiling over the memory of a container's guests together, in pages that their processes share with the caller.
//!
//! The caller makes a [`SharedCeiling`] and passes it to the runner with each guest. A guest's process maps it as a
//! [`CeilingView`], and reads the ceiling and what the others have whenever the guest asks for memory. No system call
//! takes part. See decisions 0037 and 0041.
//!
//! ```text
//! part 0   the ceiling in bytes, the number of places that were ever used    the caller writes
//! part n   what the guest of place n - 1 has, in bytes                       that guest's process writes
//! ```
//!
//! A guest's process can write its own part alone: it maps the rest through a descriptor that is only for reading, and
//! keeps no descriptor.
//!
//! This is a leaf file with unsafe code.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// How many guests a container has at once, at most.
const PLACES: u32 = 64;
/// The largest size of a page. Only pages that are used exist.
const PART: usize = 64 << 10;
const SIZE: usize = (1 + PLACES as usize) * PART;
/// No ceiling.
const NONE: u64 = u64::MAX;
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);
/// The place of a container's init process.
const INIT: u32 = 0;
/// What the process of a further guest needs besides the guest's memory, in bytes: its stacks, page tables and
/// buffers. That of the init process is in the headroom of the policy.
const OWN_NEEDS: u64 = 4 << 20;

/// The caller's side.
#[derive(Debug)]
pub struct SharedCeiling(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: OwnedFd,
    parts: Mapping,
    /// A bit for each place.
    taken: Mutex<u64>,
}

impl SharedCeiling {
    /// Pages with this ceiling in bytes; `None` for no ceiling. The init process has its place.
    ///
    /// # Errors
    /// Those of memfd_create(2), mmap(2) and fcntl(2).
    pub fn new(bytes: Option<u64>) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"guest-ceiling", flags)?;
        ftruncate(&file, SIZE as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        let parts = Mapping::new(file.as_fd(), MappingAccess::ReadWrite, 0, SIZE)?;
        parts.places().store(1, Ordering::SeqCst);
        let ceiling = Self(Arc::new(Shared {
            file,
            parts,
            taken: Mutex::new(1 << INIT),
        }));
        ceiling.set(bytes);
        Ok(ceiling)
    }

    /// Changes the ceiling.
    pub fn set(&self, bytes: Option<u64>) {
        let value = bytes.unwrap_or(NONE);
        self.0.parts.ceiling().store(value, Ordering::SeqCst);
    }

    /// The ceiling.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.0.parts.bytes()
    }

    /// A place for a further guest, which counts as one that has nothing yet. `None`: all are taken.
    #[must_use]
    pub fn place(&self) -> Option<GuestPlace> {
        let mut taken = self.0.taken();
        let number = (!*taken).trailing_zeros();
        if number >= PLACES {
            return None;
        }
        *taken |= 1 << number;
        let parts = &self.0.parts;
        parts.used(number).store(OWN_NEEDS, Ordering::SeqCst);
        let ever = u64::from(number) + 1;
        parts.places().fetch_max(ever, Ordering::SeqCst);
        Some(GuestPlace {
            shared: Arc::clone(&self.0),
            number,
        })
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, u64> {
        // A panic cannot leave a number half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for SharedCeiling {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

/// The place of a further guest. To be dropped when its process has ended: others may have its memory then.
#[derive(Debug)]
pub struct GuestPlace {
    shared: Arc<Shared>,
    number: u32,
}

impl GuestPlace {
    /// For [`CeilingView::map`].
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl AsFd for GuestPlace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.file.as_fd()
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        self.shared
            .parts
            .used(self.number)
            .store(0, Ordering::SeqCst);
        *taken &= !(1 << self.number);
    }
}

/// The side of a guest's process.
#[derive(Debug)]
pub struct CeilingView {
    /// Cannot be written.
    parts: Mapping,
    /// What this guest has.
    own: Mapping,
    /// What its process needs besides, in bytes.
    own_needs: u64,
}

/// Memory that a guest does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// What the guests of the container would have in all, in bytes.
    pub asked: u64,
    /// The ceiling at that time.
    pub limit: u64,
}

impl CeilingView {
    /// Maps what the caller has passed, for the guest of this place (0: that of the init process). The descriptor is
    /// not needed after that, and is to be closed before the guest runs. Needs /proc.
    ///
    /// # Errors
    /// Those of open(2) and mmap(2), and if there is no such place.
    pub fn map(file: BorrowedFd<'_>, place: u32) -> io::Result<Self> {
        if place >= PLACES {
            let reason = format!("no place {place} for a guest");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let reader = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(Self {
            parts: Mapping::new(reader.as_fd(), MappingAccess::Read, 0, SIZE)?,
            own: Mapping::new(file, MappingAccess::ReadWrite, part_of(place), PART)?,
            own_needs: if place == INIT { 0 } else { OWN_NEEDS },
        })
    }

    /// The ceiling in bytes; `None` for no ceiling.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.parts.bytes()
    }

    /// Asks that this guest may have so many bytes in all.
    ///
    /// # Errors
    /// If the guests of the container would have more than the ceiling together. Of two that ask at the same time
    /// for the last room, both may be refused.
    pub fn request(&self, bytes: u64) -> Result<(), NoRoom> {
        let own = self.own.word(0);
        // Each announces what it wants before it looks at the others: so two cannot both miss the other.
        let before = own.swap(bytes.saturating_add(self.own_needs), Ordering::SeqCst);
        let places = self.parts.places().load(Ordering::SeqCst);
        let places = u32::try_from(places).unwrap_or(PLACES).min(PLACES);
        let used = (0..places).map(|place| self.parts.used(place).load(Ordering::SeqCst));
        let asked = used.fold(0, u64::saturating_add);
        match self.get() {
            Some(limit) if asked > limit => {
                own.store(before, Ordering::SeqCst);
                Err(NoRoom { asked, limit })
            }
            _ => Ok(()),
        }
    }

    /// Tells the others that this guest has only so many bytes in all: it did not get what it was granted.
    pub fn give_back_to(&self, bytes: u64) {
        let own = self.own.word(0);
        own.store(bytes.saturating_add(self.own_needs), Ordering::SeqCst);
    }
}

/// Where the part of a place begins.
fn part_of(place: u32) -> usize {
    (1 + place as usize) * PART
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MappingAccess {
    Read,
    ReadWrite,
}

/// A shared mapping of words.
#[derive(Debug)]
struct Mapping {
    address: NonNull<AtomicU64>,
    size: usize,
}

// SAFETY: the mapping belongs to no thread, and is used only as atomic words.
unsafe impl Send for Mapping {}
// SAFETY: the same.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `from` and `size` are multiples of [`PART`], within the file.
    fn new(
        file: BorrowedFd<'_>,
        access: MappingAccess,
        from: usize,
        size: usize,
    ) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        let access = match access {
            MappingAccess::Read => libc::PROT_READ,
            MappingAccess::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
        let shared = libc::MAP_SHARED;
        // SAFETY: the kernel chooses an address that nothing else uses.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), size, access, shared, fd, from) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast())
            .ok_or_else(|| io::Error::other("the pages were mapped at address 0"))?;
        Ok(Self { address, size })
    }

    /// The word that begins `at` bytes from the beginning.
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(size_of::<u64>()) && at < self.size);
        // SAFETY: the mapping is aligned to a page and `at` to a word, which lies in the mapping, as has just been
        // checked, and lives as long as `self`. The file has this size and cannot shrink, so no access is beyond its
        // end. All processes use the words only atomically. No caller stores through a mapping without the right to
        // write: `CeilingView` stores in `own` alone.
        unsafe { self.address.byte_add(at).as_ref() }
    }

    fn ceiling(&self) -> &AtomicU64 {
        self.word(0)
    }

    fn places(&self) -> &AtomicU64 {
        self.word(size_of::<u64>())
    }

    fn used(&self, place: u32) -> &AtomicU64 {
        self.word(part_of(place))
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.ceiling().load(Ordering::SeqCst)).filter(|&bytes| bytes != NONE)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` has made this mapping of this size, and no reference to it is left.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn view(ceiling: &SharedCeiling, place: u32) -> CeilingView {
        CeilingView::map(ceiling.as_fd(), place).expect("map")
    }

    #[test]
    fn view_follows_the_caller() {
        let ceiling = SharedCeiling::new(Some(64)).expect("pages");
        let view = view(&ceiling, INIT);
        assert_eq!(view.get(), Some(64));
        for bytes in [Some(1 << 40), None, Some(0)] {
            ceiling.set(bytes);
            assert_eq!((ceiling.get(), view.get()), (bytes, bytes));
        }
    }

    #[test]
    fn guests_share_the_room_until_they_end() {
        let ceiling = SharedCeiling::new(Some(100 * MIB)).expect("pages");
        let init = view(&ceiling, INIT);
        assert_eq!(init.request(60 * MIB), Ok(()));
        let place = ceiling.place().expect("a place");
        let exec = view(&ceiling, place.number());
        let refused = Err(NoRoom {
            asked: 60 * MIB + 40 * MIB + OWN_NEEDS,
            limit: 100 * MIB,
        });
        assert_eq!(exec.request(40 * MIB), refused);
        assert_eq!(exec.request(30 * MIB), Ok(()));
        // What it was refused does not count, and what it has does.
        init.request(80 * MIB).expect_err("no room");
        init.request(66 * MIB).expect("the last room");
        init.give_back_to(60 * MIB);
        exec.request(36 * MIB)
            .expect("what the other has given back");
        drop((exec, place));
        init.request(100 * MIB).expect("all is free");
    }

    #[test]
    fn a_place_is_free_when_its_guest_has_ended() {
        let ceiling = SharedCeiling::new(None).expect("pages");
        let all: Vec<_> = std::iter::from_fn(|| ceiling.place()).collect();
        let numbers: Vec<_> = all.iter().map(GuestPlace::number).collect();
        assert_eq!(numbers, (1..PLACES).collect::<Vec<_>>());
        drop(all);
        assert_eq!(ceiling.place().expect("a place").number(), 1);
        CeilingView::map(ceiling.as_fd(), PLACES).expect_err("no such place");
    }

    /// However they are scheduled, they never have more than the ceiling.
    #[test]
    fn guests_that_grow_at_once_stay_beneath_the_ceiling() {
        const STEP: u64 = MIB;
        let limit = 200 * MIB;
        let ceiling = SharedCeiling::new(Some(limit)).expect("pages");
        let places: Vec<_> = (0..7).map(|_| ceiling.place().expect("a place")).collect();
        let got: u64 = thread::scope(|scope| {
            let threads: Vec<_> = std::iter::once(INIT)
                .chain(places.iter().map(GuestPlace::number))
                .map(|place| {
                    let view = view(&ceiling, place);
                    scope.spawn(move || {
                        let mut has = 0;
                        // Each goes on until it is refused several times: a refusal may be another's fault.
                        let mut refused = 0;
                        while refused < 50 {
                            match view.request(has + STEP) {
                                Ok(()) => has += STEP,
                                Err(_) => refused += 1,
                            }
                        }
                        has + view.own_needs
                    })
                })
                .collect();
            let each = threads
                .into_iter()
                .map(|thread| thread.join().expect("it ends"));
            each.sum()
        });
        assert!(got <= limit, "{got}");
    }

    #[test]
    fn a_guests_process_can_write_its_own_part_alone() {
        let ceiling = SharedCeiling::new(Some(64)).expect("pages");
        let place = ceiling.place().expect("a place");
        let view = view(&ceiling, place.number());
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: asks for another protection of a mapping that lives; it is refused.
        let changed = unsafe { libc::mprotect(view.parts.address.as_ptr().cast(), SIZE, writable) };
        assert_eq!(changed, -1);
        assert_eq!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EACCES)
        );
        assert_eq!(view.own.size, PART);
        view.own.word(0).store(u64::MAX, Ordering::SeqCst);
        assert_eq!(ceiling.0.parts.used(INIT).load(Ordering::SeqCst), 0);
        assert_eq!(view.get(), Some(64));
        let file = File::from(ceiling.as_fd().try_clone_to_owned().expect("dup"));
        assert_eq!(
            file.set_len(0).expect_err("shrink").raw_os_error(),
            Some(libc::EPERM)
        );
    }
}
