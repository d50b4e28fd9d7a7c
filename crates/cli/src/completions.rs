//! `wasm-interp completions`: completions for a shell, generated from the definition of the arguments.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

/// Print completions for a shell.
///
/// bash: wasm-interp completions bash > /usr/share/bash-completion/completions/wasm-interp
///
/// zsh: wasm-interp completions zsh > /usr/share/zsh/site-functions/_wasm-interp
///
/// fish: wasm-interp completions fish > ~/.config/fish/completions/wasm-interp.fish
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Prints the completions of `command`.
pub(crate) fn completions(
    args: &CompletionsArgs,
    mut command: clap::Command,
) -> io::Result<ExitCode> {
    let name = command.get_name().to_owned();
    // Into memory first, because the generator panics if the reader closes the pipe early.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
