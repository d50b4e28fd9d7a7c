//! Calls of `wasi:io/poll`, `wasi:io/error` and `wasi:clocks`. A poll always has a time among what it waits for.

use wasm_interp_wasi::p2::fuzzing::Resource;
use wasm_interp_wasi::p2::fuzzing::wasi::clocks::{monotonic_clock, wall_clock};
use wasm_interp_wasi::p2::fuzzing::wasi::io::error::HostError as _;
use wasm_interp_wasi::p2::fuzzing::wasi::io::poll::{Host as _, HostPollable as _};

use super::calls::WaitCall;
use super::{Component, filesystem, network, poll};

/// How long a poll waits at most, in nanoseconds.
const MOMENT: u64 = 50_000;
/// More of them at once are a trap.
const POLLED: usize = 1 << 16;

impl Component {
    fn pollable_of_a_moment(&mut self) -> Option<Resource<poll::Pollable>> {
        let moment = monotonic_clock::Host::subscribe_duration(&mut self.guest, MOMENT);
        self.plain(moment)
    }

    fn poll(&mut self, picks: &[u8], too_many: bool) -> Option<()> {
        if self.rude && too_many {
            let one = self.handles.pollables.lend(*picks.first()?)?;
            let many = (0..=POLLED).map(|_| Resource::new_borrow(one.rep()));
            let happened = self.guest.poll(many.collect());
            assert!(self.plain(happened).is_none(), "a list that is too long");
            return None;
        }
        if self.rude && picks.is_empty() {
            let happened = self.guest.poll(Vec::new());
            assert!(self.plain(happened).is_none(), "a list of nothing");
            return None;
        }
        let moment = self.pollable_of_a_moment()?;
        let pollables = &self.handles.pollables;
        let mut all: Vec<_> = picks
            .iter()
            .filter_map(|pick| pollables.lend(*pick))
            .collect();
        all.push(Resource::new_borrow(moment.rep()));
        let count = all.len();
        let happened = self.guest.poll(all);
        let happened = self.plain(happened)?;
        assert!(!happened.is_empty(), "nothing has happened");
        assert!(
            happened.is_sorted_by(|one, next| one < next),
            "{happened:?}"
        );
        assert!(happened.iter().all(|at| (*at as usize) < count));
        let dropped = poll::HostPollable::drop(&mut self.guest, moment);
        self.plain(dropped)
    }

    pub(super) fn call_wait(&mut self, pick: u8, call: &WaitCall) -> Option<()> {
        let guest = &mut self.guest;
        match call {
            WaitCall::Poll(picks, too_many) => self.poll(picks, *too_many && picks.len() > 3)?,
            WaitCall::Ready => {
                let ready = guest.ready(self.handles.pollables.lend(pick)?);
                self.plain(ready)?;
            }
            WaitCall::Block => {
                let ready = guest.ready(self.handles.pollables.lend(pick)?);
                if self.plain(ready)? {
                    let blocked = self.guest.block(self.handles.pollables.lend(pick)?);
                    self.plain(blocked)?;
                }
            }
            WaitCall::Instant(when) => {
                let pollable = monotonic_clock::Host::subscribe_instant(guest, *when);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
            WaitCall::Duration(time) => {
                let pollable = monotonic_clock::Host::subscribe_duration(guest, *time);
                let pollable = self.plain(pollable)?;
                self.handles.pollables.put(pollable);
            }
            WaitCall::Clocks => {
                let (one, next) = (
                    monotonic_clock::Host::now(guest),
                    monotonic_clock::Host::now(guest),
                );
                let fine = monotonic_clock::Host::resolution(guest);
                let time = wall_clock::Host::now(guest);
                let coarse = wall_clock::Host::resolution(guest);
                assert!(self.plain(one)? <= self.plain(next)?);
                assert!(self.plain(fine)? > 0);
                assert!(self.plain(time)?.nanoseconds < 1_000_000_000);
                assert!(self.plain(coarse)?.nanoseconds > 0);
            }
            WaitCall::DebugText => {
                let text = guest.to_debug_string(self.handles.errors.lend(pick)?);
                assert!(!self.plain(text)?.is_empty());
            }
            WaitCall::ErrorCodes => {
                let error = self.handles.errors.lend(pick)?;
                let other = Resource::new_borrow(error.rep());
                let of_file = filesystem::Host::filesystem_error_code(guest, error);
                let of_network = network::Host::network_error_code(guest, other);
                self.plain(of_file)?;
                self.plain(of_network)?;
            }
        }
        Some(())
    }
}
