//! `wasm-interp cache`: lists, verifies and prunes the artifact store.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use serde::Serialize;
use thiserror::Error;
use wasm_interp_artifact::{Integrity, Store, StoreEntry, StoreError};
use wasm_interp_image::{CacheError, Images};
use wasm_interp_workload::{parse_size, printable, printable_json};

use crate::places;

/// List, verify or prune the node's native code.
///
/// Native code is compiled once per module and used by all its containers. These commands may be run
/// while containers run: an entry in use is kept, and a missing one is compiled again when needed.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CacheArgs {
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
    /// List the entries, the most recently used first.
    Ls,
    /// Read every byte of every entry; exit with 1 if one is damaged.
    Verify,
    /// Remove the least recently used entries, but none that a container holds.
    Prune {
        /// The size to keep: bytes, or a number with a unit, as 500M or 2GiB (powers of 1024).
        #[arg(long, value_name = "SIZE", default_value = "0", value_parser = parse_size)]
        keep: u64,
    },
}

/// Why a command on the cache failed.
#[derive(Debug, Error)]
pub(crate) enum CacheCommandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Images(#[from] CacheError),
    #[error("cannot print the result: {0}; check where standard output leads")]
    Print(#[from] io::Error),
}

/// An entry as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    entry: &'a StoreEntry,
    /// Seconds since 1970.
    last_used_unix: u64,
    #[serde(flatten)]
    verdict: Option<&'a Integrity>,
}

impl<'a> Line<'a> {
    fn new(entry: &'a StoreEntry, verdict: Option<&'a Integrity>) -> Self {
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

/// Runs a command on the cache.
pub(crate) fn cache(args: &CacheArgs) -> Result<ExitCode, CacheCommandError> {
    let root = args.cache.clone().unwrap_or_else(places::cache_dir);
    let store = Store::open(&root);
    match args.act {
        Act::Ls => ls(&store, args.json),
        Act::Verify => verify(&store, args.json),
        Act::Prune { keep } => prune(&store, &places::images(&root), keep, args.json),
    }
}

fn ls(store: &Store, json: bool) -> Result<ExitCode, CacheCommandError> {
    let entries = store.list()?;
    let mut out = io::stdout();
    if json {
        let lines: Vec<_> = entries.iter().map(|entry| Line::new(entry, None)).collect();
        writeln!(
            out,
            "{}",
            printable_json(&serde_json::to_string(&lines).map_err(io::Error::from)?)
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
            printable(&entry.name)
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(store: &Store, json: bool) -> Result<ExitCode, CacheCommandError> {
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
            printable_json(&serde_json::to_string(&lines).map_err(io::Error::from)?)
        )?;
    } else {
        for (entry, verdict) in &verdicts {
            let words = match verdict {
                Integrity::Sound => "sound".to_owned(),
                Integrity::Unsound { reason } => {
                    format!(
                        "not sound, it will be compiled again: {}",
                        printable(reason)
                    )
                }
            };
            writeln!(
                out,
                "{:.12}  {}  {words}",
                entry.key.wasm().to_string(),
                printable(&entry.name)
            )?;
        }
    }
    let sound = verdicts
        .iter()
        .all(|(_, verdict)| *verdict == Integrity::Sound);
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn prune(
    store: &Store,
    images: &Images,
    keep: u64,
    json: bool,
) -> Result<ExitCode, CacheCommandError> {
    let pruned = store.prune(keep)?;
    let images = images.prune(keep)?;
    let mut out = io::stdout();
    if json {
        let mut value = serde_json::to_value(pruned).map_err(io::Error::from)?;
        value["images"] = serde_json::to_value(images).map_err(io::Error::from)?;
        writeln!(out, "{value}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for (what, removed, freed, spared, kept) in [
        (
            "native code",
            pruned.removed,
            pruned.freed_bytes,
            pruned.spared,
            pruned.kept_bytes,
        ),
        (
            "images",
            images.removed,
            images.freed_bytes,
            images.spared,
            images.kept_bytes,
        ),
    ] {
        let (freed, kept) = (megabytes(freed), megabytes(kept));
        write!(out, "{what}: removed {removed} ({freed}), kept {kept}")?;
        match spared {
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
