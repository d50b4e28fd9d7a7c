//! Ends a run on Ctrl-C, TERM and HUP, with nothing left behind.

use std::io::{self, Write};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// On the first signal, says what happens now, calls `clean_up` and ends this process.
pub fn clean_up_on_signal(
    act: &'static str,
    clean_up: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Not eprintln, which panics where the terminal is gone: that is one of the reasons to be here.
            let _ = writeln!(io::stderr(), "signal {signal}: {act}");
            clean_up();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}
