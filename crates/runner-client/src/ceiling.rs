//! The ceiling of a guest's memory, in a page that its caller can change while the guest runs.
//!
//! The caller makes a [`SharedCeiling`] and passes it to the runner; the guest's process maps it as a
//! [`CeilingView`] and reads it whenever the guest asks for memory. No system call takes part. Once the caller
//! has its own mapping, the page is sealed: through the descriptor that the runner gets, and in the mapping
//! that the guest's process has, no one can write (memfd_create(2), `F_SEAL_FUTURE_WRITE`). See decision 0037.
//!
//! This is a leaf file with unsafe code.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// One page, whatever the size of pages is: the kernel rounds up.
const SIZE: usize = 4096;
/// No ceiling.
const NONE: u64 = u64::MAX;
const SEALS: SealFlags = SealFlags::FUTURE_WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// The caller's side.
#[derive(Debug)]
pub struct SharedCeiling {
    file: OwnedFd,
    page: Page,
}

impl SharedCeiling {
    /// A page with this ceiling in bytes; `None` for no ceiling.
    ///
    /// # Errors
    /// Those of memfd_create(2), mmap(2) and fcntl(2).
    pub fn new(bytes: Option<u64>) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create(c"guest-ceiling", flags)?;
        ftruncate(&file, SIZE as u64)?;
        let page = Page::map(file.as_fd(), libc::PROT_READ | libc::PROT_WRITE)?;
        fcntl_add_seals(&file, SEALS)?;
        let ceiling = Self { file, page };
        ceiling.set(bytes);
        Ok(ceiling)
    }

    /// Changes the ceiling.
    pub fn set(&self, bytes: Option<u64>) {
        let value = bytes.unwrap_or(NONE);
        self.page.word().store(value, Ordering::Relaxed);
    }

    /// The ceiling.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.page.get()
    }
}

impl AsFd for SharedCeiling {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The guest's side, which is read-only.
#[derive(Debug)]
pub struct CeilingView(Page);

impl CeilingView {
    /// Maps the page that the caller has passed. The descriptor is not needed after that.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map(file: BorrowedFd<'_>) -> io::Result<Self> {
        Page::map(file, libc::PROT_READ).map(Self)
    }

    /// The ceiling in bytes; `None` for no ceiling.
    #[must_use]
    pub fn get(&self) -> Option<u64> {
        self.0.get()
    }
}

/// A shared mapping of the page.
#[derive(Debug)]
struct Page(NonNull<AtomicU64>);

// SAFETY: the mapping belongs to no thread, and is used only as an atomic word.
unsafe impl Send for Page {}
// SAFETY: the same.
unsafe impl Sync for Page {}

impl Page {
    fn map(file: BorrowedFd<'_>, access: libc::c_int) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: the kernel chooses an address that nothing else uses.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(|| io::Error::other("the page was mapped at address 0"))
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins at this address, is aligned to a page, larger than the word, and lives
        // as long as `self`. The file has this size and cannot shrink, so no access is beyond its end. Both
        // processes use the word only atomically, and the guest's side only loads it.
        unsafe { self.0.as_ref() }
    }

    fn get(&self) -> Option<u64> {
        Some(self.word().load(Ordering::Relaxed)).filter(|&bytes| bytes != NONE)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: `map` has made this mapping of this size, and no reference to it is left.
        unsafe { libc::munmap(self.0.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write};

    use super::*;

    #[test]
    fn view_follows_the_caller() {
        let ceiling = SharedCeiling::new(Some(64)).expect("a page");
        let view = CeilingView::map(ceiling.as_fd()).expect("map");
        assert_eq!(view.get(), Some(64));
        for bytes in [Some(1 << 40), None, Some(0)] {
            ceiling.set(bytes);
            assert_eq!((ceiling.get(), view.get()), (bytes, bytes));
        }
    }

    #[test]
    fn page_cannot_be_written_through_its_descriptor_or_the_view() {
        let ceiling = SharedCeiling::new(Some(64)).expect("a page");
        let mut file = File::from(ceiling.as_fd().try_clone_to_owned().expect("dup"));
        let refused = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        refused(file.write_all(&[1; 8]).expect_err("write"));
        refused(file.set_len(0).expect_err("shrink"));
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        refused(Page::map(file.as_fd(), writable).expect_err("map"));
        let view = CeilingView::map(ceiling.as_fd()).expect("map");
        // SAFETY: asks for another protection of a mapping that lives; it is refused.
        let changed = unsafe { libc::mprotect(view.0.0.as_ptr().cast(), SIZE, writable) };
        assert_eq!(changed, -1);
        assert_eq!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EACCES)
        );
        assert_eq!(view.get(), Some(64));
    }
}
