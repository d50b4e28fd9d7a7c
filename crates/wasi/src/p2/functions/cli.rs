//! `wasi:cli`: arguments, environment, the container's streams, and how a component ends itself.
#![forbid(unsafe_code)]

use rustix::termios::isatty;
use wasmtime::component::Resource;

use crate::{
    p2::{
        bindings::wasi::cli::{
            environment, exit, stderr, stdin, stdout, terminal_input, terminal_output,
            terminal_stderr, terminal_stdin, terminal_stdout,
        },
        guest::ComponentGuest,
        handles::{InputStream, InputTerminal, OutputHandle, OutputStream, OutputTerminal},
    },
    sys::{self, Standard},
};

impl environment::Host for ComponentGuest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.environment.clone())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.arguments.clone())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(Some(self.directory.clone()))
    }
}

impl exit::Host for ComponentGuest {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        self.finish();
        sys::exit_now(i32::from(status.is_err()))
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        self.finish();
        sys::exit_now(i32::from(code))
    }
}

impl stdin::Host for ComponentGuest {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<InputStream>> {
        self.push(InputStream::standard())
    }
}

impl ComponentGuest {
    fn standard(&mut self, stream: Standard) -> wasmtime::Result<Resource<OutputHandle>> {
        self.push(OutputStream::standard(stream))
    }
}

impl stdout::Host for ComponentGuest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<OutputHandle>> {
        self.standard(Standard::Output)
    }
}

impl stderr::Host for ComponentGuest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<OutputHandle>> {
        self.standard(Standard::Error)
    }
}

impl terminal_input::Host for ComponentGuest {}

impl terminal_input::HostTerminalInput for ComponentGuest {
    fn drop(&mut self, terminal: Resource<InputTerminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::Host for ComponentGuest {}

impl terminal_output::HostTerminalOutput for ComponentGuest {
    fn drop(&mut self, terminal: Resource<OutputTerminal>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl ComponentGuest {
    fn terminal<T: Send + 'static>(
        &mut self,
        stream: Standard,
        terminal: T,
    ) -> wasmtime::Result<Option<Resource<T>>> {
        let is_terminal = isatty(sys::standard(stream));
        is_terminal.then(|| self.push(terminal)).transpose()
    }
}

impl terminal_stdin::Host for ComponentGuest {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<InputTerminal>>> {
        self.terminal(Standard::Input, InputTerminal)
    }
}

impl terminal_stdout::Host for ComponentGuest {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<OutputTerminal>>> {
        self.terminal(Standard::Output, OutputTerminal)
    }
}

impl terminal_stderr::Host for ComponentGuest {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<OutputTerminal>>> {
        self.terminal(Standard::Error, OutputTerminal)
    }
}
