//! Signals to the init process, which is the guest.

use crate::Outcome;
use crate::guests::{IDLE, LOOP};
use crate::world::World;

pub(super) fn term_ends_an_idle_guest(world: &World) -> Outcome {
    signal(world, IDLE, "SIGTERM", 143)?;
    signal(world, IDLE, "SIGINT", 130)
}

pub(super) fn term_ends_a_tight_loop(world: &World) -> Outcome {
    signal(world, LOOP, "SIGTERM", 143)
}

pub(super) fn kill_is_137(world: &World) -> Outcome {
    signal(world, IDLE, "SIGKILL", 137)?;
    signal(world, LOOP, "SIGKILL", 137)
}

fn signal(world: &World, image: &str, signal: &str, code: i32) -> Outcome {
    let container = world.container(image);
    container.detach()?;
    container.wait_for_output("ready")?;
    container.end_by(signal, code)?;
    container.remove()
}
