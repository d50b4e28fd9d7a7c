//! `wasm-interp cache`: what the artifact store holds, whether it is sound, and less of it.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde::Serialize;
use thiserror::Error;
use wasm_interp_artifact::{Entry, Store, StoreConfig, StoreError, Verdict};

use crate::places;

/// Look after the node's native code.
///
/// Native code is made once for each module and used by all its containers. Everything here may be
/// run while containers do: what they use is spared, and what is missing is compiled again.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
    /// Directory of the cache.
    #[arg(long, global = true, value_name = "DIR", env = places::CACHE_ENV)]
    cache: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  wasm-interp cache ls
  wasm-interp cache verify --json | jq '.[] | select(.verdict == \"unsound\")'
  wasm-interp cache prune --keep 500M";

#[derive(Subcommand)]
enum Act {
    /// List what is there, the most recently used first.
    Ls,
    /// Read every byte of every entry; exit with 1 if one is not as it was written.
    Verify,
    /// Remove what was not used for longest, sparing what containers hold.
    Prune {
        /// Keep this many bytes (K, M and G are powers of 1024).
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
        keep: u64,
    },
}

/// Why the cache was not looked after.
#[derive(Debug, Error)]
pub(crate) enum CacheError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
}

/// An entry as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    /// Seconds since 1970.
    last_used_unix: u64,
    #[serde(flatten)]
    verdict: Option<&'a Verdict>,
}

impl<'a> Line<'a> {
    fn new(entry: &'a Entry, verdict: Option<&'a Verdict>) -> Self {
        let last_used_unix = entry
            .last_used
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            entry,
            last_used_unix,
            verdict,
        }
    }
}

/// Looks after the cache.
pub(crate) fn cache(args: &Args) -> Result<ExitCode, CacheError> {
    let root = args.cache.clone().unwrap_or_else(places::cache_dir);
    let store = Store::open(&root, StoreConfig::default());
    match args.act {
        Act::Ls => ls(&store, args.json),
        Act::Verify => verify(&store, args.json),
        Act::Prune { keep } => prune(&store, keep, args.json),
    }
}

fn ls(store: &Store, json: bool) -> Result<ExitCode, CacheError> {
    let entries = store.list()?;
    let mut out = io::stdout();
    if json {
        let lines: Vec<_> = entries.iter().map(|entry| Line::new(entry, None)).collect();
        writeln!(
            out,
            "{}",
            serde_json::to_string(&lines).map_err(io::Error::from)?
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:<12}  {:>9}  {:>8}  {:<9}  MODULE",
        "SHA256", "SIZE", "USED", "STATE"
    )?;
    for entry in &entries {
        let state = match (entry.in_use, entry.current) {
            (true, _) => "in use",
            (false, true) => "ready",
            (false, false) => "outdated",
        };
        writeln!(
            out,
            "{:.12}  {:>9}  {:>8}  {state:<9}  {}",
            entry.key.wasm().to_string(),
            megabytes(entry.bytes),
            ago(entry.last_used),
            entry.name
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(store: &Store, json: bool) -> Result<ExitCode, CacheError> {
    let verdicts = store.verify()?;
    let mut out = io::stdout();
    if json {
        let lines: Vec<_> = verdicts
            .iter()
            .map(|(entry, verdict)| Line::new(entry, Some(verdict)))
            .collect();
        writeln!(
            out,
            "{}",
            serde_json::to_string(&lines).map_err(io::Error::from)?
        )?;
    } else {
        for (entry, verdict) in &verdicts {
            let words = match verdict {
                Verdict::Sound => "sound".to_owned(),
                Verdict::Unsound { reason } => {
                    format!("not sound, it will be compiled again: {reason}")
                }
            };
            writeln!(
                out,
                "{:.12}  {}  {words}",
                entry.key.wasm().to_string(),
                entry.name
            )?;
        }
    }
    let sound = verdicts
        .iter()
        .all(|(_, verdict)| *verdict == Verdict::Sound);
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn prune(store: &Store, keep: u64, json: bool) -> Result<ExitCode, CacheError> {
    let pruned = store.prune(keep)?;
    let mut out = io::stdout();
    if json {
        writeln!(
            out,
            "{}",
            serde_json::to_string(&pruned).map_err(io::Error::from)?
        )?;
    } else {
        let (freed, kept) = (megabytes(pruned.freed_bytes), megabytes(pruned.kept_bytes));
        write!(out, "removed {} ({freed}), kept {kept}", pruned.removed)?;
        match pruned.spared {
            0 => writeln!(out)?,
            spared => writeln!(out, "; {spared} in use")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A size for people.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// Bytes, with an optional K, M or G.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write bytes, or a number and K, M or G");
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("500M"), Ok(500 << 20));
        assert_eq!(size("2g"), Ok(2 << 30));
        for wrong in ["", "M", "1.5G", "-1", "10 M", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
