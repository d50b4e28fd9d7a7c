//! The session keyring of a process, asked by the process itself: keyctl(2) is in no library here.
#![allow(unsafe_code)]

/// The serial number and the description of this process's session keyring.
pub(crate) fn session() -> String {
    const SESSION: i32 = -3;
    // SAFETY: the operation takes numbers alone and touches no memory.
    let serial =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_GET_KEYRING_ID, SESSION, 0) };
    let mut text = [0u8; 256];
    // SAFETY: the kernel writes at most as many bytes as it is told, to a buffer of that size.
    let length = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            SESSION,
            text.as_mut_ptr(),
            text.len(),
        )
    };
    let error = std::io::Error::last_os_error();
    assert!(
        serial > 0 && length > 0,
        "ask for the session keyring: {error}"
    );
    let text = String::from_utf8_lossy(&text[..usize::try_from(length).expect("length") - 1]);
    format!("{serial};{text}")
}
