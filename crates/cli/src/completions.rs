//! `wasm-interp completions`: completions for a shell, made from the arguments themselves.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Cli;

/// Print completions for a shell.
///
/// bash: wasm-interp completions bash > /usr/share/bash-completion/completions/wasm-interp
///
/// zsh: wasm-interp completions zsh > /usr/share/zsh/site-functions/_wasm-interp
///
/// fish: wasm-interp completions fish > ~/.config/fish/completions/wasm-interp.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn completions(args: &Args) -> io::Result<ExitCode> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Into memory first: the generator would panic where a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
