//! Calls of `wasi:io/streams`. What blocks is called only if it need not wait: here no other side reads or writes.

use wasm_interp_wasi::p2::fuzzing::wasi::io::poll::HostPollable as _;
use wasm_interp_wasi::p2::fuzzing::wasi::io::streams::{
    HostInputStream, HostOutputStream, InputStream, OutputStream,
};
use wasm_interp_wasi::p2::fuzzing::{Resource, Trap};

use super::calls::{InputCall, OutputCall};
use super::values::WRITTEN;
use super::{Component, inside, poll};

/// The most that a stream gives at once.
const MOST: u64 = 1 << 20;
/// The most that it takes.
const MOST_WRITTEN: u64 = 0x7fff_f000;
/// What a socket takes surely when it is ready.
const SURE: u64 = 64;

impl Component {
    /// Whether what a stream is waited for has happened.
    fn happened(&mut self, pollable: Result<Resource<poll::Pollable>, Trap>) -> Option<()> {
        let pollable = self.plain(pollable)?;
        let rep = pollable.rep();
        let ready = self.guest.ready(Resource::new_borrow(rep));
        let ready = self.plain(ready);
        let dropped = poll::HostPollable::drop(&mut self.guest, pollable);
        self.plain(dropped)?;
        ready?.then_some(())
    }

    fn readable(&mut self, pick: u8) -> Option<Resource<InputStream>> {
        let stream = self.handles.inputs.lend(pick)?;
        let pollable = HostInputStream::subscribe(&mut self.guest, stream);
        self.happened(pollable)?;
        self.handles.inputs.lend(pick)
    }

    fn writable(&mut self, pick: u8) -> Option<Resource<OutputStream>> {
        let stream = self.handles.outputs.lend(pick)?;
        let pollable = HostOutputStream::subscribe(&mut self.guest, stream);
        self.happened(pollable)?;
        self.handles.outputs.lend(pick)
    }

    pub(super) fn call_input(&mut self, pick: u8, call: &InputCall) -> Option<()> {
        let stream = self.handles.inputs.lend(pick)?;
        match call {
            InputCall::Read(most) => {
                let read = HostInputStream::read(&mut self.guest, stream, most.0);
                let bytes = self.stream(read)?;
                assert!(bytes.len() as u64 <= most.0.min(MOST), "{}", bytes.len());
                inside(&bytes);
            }
            InputCall::BlockingRead(most) => {
                let stream = self.readable(pick)?;
                let read = self.guest.blocking_read(stream, most.0);
                let bytes = self.stream(read)?;
                assert!(bytes.len() as u64 <= most.0.min(MOST), "{}", bytes.len());
                inside(&bytes);
            }
            InputCall::Skip(most) => {
                let skipped = self.guest.skip(stream, most.0);
                assert!(self.stream(skipped)? <= most.0.min(MOST));
            }
            InputCall::BlockingSkip(most) => {
                let stream = self.readable(pick)?;
                let skipped = self.guest.blocking_skip(stream, most.0);
                assert!(self.stream(skipped)? <= most.0.min(MOST));
            }
            InputCall::Subscribe => {
                let pollable = HostInputStream::subscribe(&mut self.guest, stream);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
        }
        Some(())
    }

    pub(super) fn call_output(&mut self, pick: u8, call: &OutputCall) -> Option<()> {
        let stream = self.handles.outputs.lend(pick)?;
        match call {
            OutputCall::CheckWrite => {
                let permit = self.guest.check_write(stream);
                assert!(self.stream(permit)? <= MOST_WRITTEN);
            }
            OutputCall::Write(length) => {
                let permit = self.guest.check_write(stream);
                let permit = self.stream(permit)?;
                let mut bytes = length.bytes();
                bytes.truncate(permit.min(WRITTEN) as usize);
                let deep = !bytes.is_empty() && self.handles.outputs.0.len() > 1;
                let stream = self.handles.outputs.lend(pick)?;
                let written = HostOutputStream::write(&mut self.guest, stream, bytes);
                self.stream(written)?;
                self.deep |= deep;
            }
            OutputCall::Unasked(length) if self.rude => {
                let written = HostOutputStream::write(&mut self.guest, stream, length.bytes());
                self.stream(written)?;
            }
            OutputCall::Unasked(_) => {}
            OutputCall::BlockingWrite(length) => {
                let stream = self.writable(pick)?;
                let bytes = vec![b'y'; self.brief(length.0) as usize];
                let written = self.guest.blocking_write_and_flush(stream, bytes);
                self.stream(written)?;
            }
            OutputCall::Flush => {
                let flushed = self.guest.flush(stream);
                self.stream(flushed)?;
            }
            OutputCall::BlockingFlush => {
                let stream = self.writable(pick)?;
                let flushed = self.guest.blocking_flush(stream);
                self.stream(flushed)?;
            }
            OutputCall::WriteZeroes(length) => {
                let permit = self.guest.check_write(stream);
                let permit = self.stream(permit)?;
                let stream = self.handles.outputs.lend(pick)?;
                // All of the numbers that are too large are one.
                let length = if self.rude && length.0 == u64::MAX {
                    length.0
                } else {
                    length.0.min(permit).min(WRITTEN)
                };
                let written = self.guest.write_zeroes(stream, length);
                self.stream(written)?;
            }
            OutputCall::BlockingWriteZeroes(length) => {
                let stream = self.writable(pick)?;
                let length = self.brief(length.0);
                let written = self.guest.blocking_write_zeroes_and_flush(stream, length);
                self.stream(written)?;
            }
            OutputCall::Splice(from, most) => {
                let from = self.handles.inputs.lend(*from)?;
                let most = most.0.min(WRITTEN);
                let spliced = self.guest.splice(stream, from, most);
                assert!(self.stream(spliced)? <= most);
            }
            OutputCall::BlockingSplice(from, most) => {
                self.readable(*from)?;
                let stream = self.writable(pick)?;
                let from = self.handles.inputs.lend(*from)?;
                let most = most.0.min(WRITTEN);
                let spliced = self.guest.blocking_splice(stream, from, most);
                assert!(self.stream(spliced)? <= most);
            }
            OutputCall::Subscribe => {
                let pollable = HostOutputStream::subscribe(&mut self.guest, stream);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
        }
        Some(())
    }
    /// A length that never waits, or one that is refused.
    fn brief(&self, length: u64) -> u64 {
        const TOO_LONG: u64 = 4097;
        if self.rude && length == TOO_LONG {
            TOO_LONG
        } else {
            length.min(SURE)
        }
    }
}
