//! A message that carries one descriptor: the open interpreter that `plan` hands to its caller, or the master of
//! a terminal of the container's own. The two ends of it.
#![forbid(unsafe_code)]

use std::{
    fs::File,
    io::{Error, ErrorKind, IoSlice, IoSliceMut, Result},
    mem::MaybeUninit,
    os::fd::AsFd,
};

use rustix::{
    cmsg_space,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

/// Sends an open file.
///
/// # Errors
/// If the other end is gone.
pub fn hand_over(socket: impl AsFd, file: impl AsFd) -> Result<()> {
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(Error::other("the descriptor does not fit into a message"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives the file that was sent. Does not wait: the sender has responded by now.
///
/// # Errors
/// [`ErrorKind::WouldBlock`] or [`ErrorKind::UnexpectedEof`] if none was sent.
pub fn receive(socket: impl AsFd) -> Result<File> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    )?;
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        })
        .map(File::from)
        .ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "no descriptor came"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn file_that_was_handed_over_is_the_same_open_file() {
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"abcd").expect("write");
        hand_over(&theirs, &file).expect("send");
        drop(theirs);
        let mut received = receive(&ours).expect("receive");
        let mut text = String::new();
        received.read_to_string(&mut text).expect("read");
        assert_eq!(text, "", "both have one position");
        receive(&ours).expect_err("only one was sent");
    }
}
