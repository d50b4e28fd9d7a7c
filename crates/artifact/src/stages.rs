//! The command line of `wasm-interp-compiler`: its two stages and their arguments. The client starts
//! the first, the publisher the second; the executable reads it.
#![forbid(unsafe_code)]

use std::ffi::OsString;

/// What a process of `wasm-interp-compiler` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompilerStage {
    /// Owns the store while one module is compiled: [`crate::publisher::main`].
    Publish,
    /// Reads the module and compiles it, without any privilege.
    CompileConfined(CompilerLimits),
}

/// What the confined compiler may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompilerLimits {
    /// Bytes of private memory.
    pub memory_bytes: u64,
    /// Seconds of CPU time, all threads together.
    pub cpu_seconds: u64,
}

/// The arguments are not those of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot run without the arguments of a stage: the shim and wasm-interp start this program; \
     to compile a module run `wasm-interp compile FILE`"
)]
pub struct ParseStageError;

const PUBLISH: &str = "publish";
const COMPILE_CONFINED: &str = "compile-confined";
const MEMORY: &str = "--memory-bytes=";
const CPU: &str = "--cpu-seconds=";

impl CompilerStage {
    /// The arguments that start this stage.
    pub(crate) fn arguments(self) -> Vec<String> {
        match self {
            Self::Publish => vec![PUBLISH.to_owned()],
            Self::CompileConfined(limits) => vec![
                COMPILE_CONFINED.to_owned(),
                format!("{MEMORY}{}", limits.memory_bytes),
                format!("{CPU}{}", limits.cpu_seconds),
            ],
        }
    }

    /// Parses the arguments of the process, without its name.
    ///
    /// # Errors
    /// If they are not those of a stage.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ParseStageError> {
        let arguments: Vec<_> = arguments
            .into_iter()
            .map(|argument| argument.into_string().map_err(|_| ParseStageError))
            .collect::<Result<_, _>>()?;
        let number = |argument: &str, name: &str| {
            let digits = argument.strip_prefix(name)?;
            digits.parse().ok()
        };
        let stage = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [PUBLISH] => Some(Self::Publish),
            [COMPILE_CONFINED, memory, cpu] => {
                let limits = number(memory, MEMORY).zip(number(cpu, CPU));
                limits.map(|(memory_bytes, cpu_seconds)| {
                    Self::CompileConfined(CompilerLimits {
                        memory_bytes,
                        cpu_seconds,
                    })
                })
            }
            _ => None,
        };
        stage.ok_or(ParseStageError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<CompilerStage, ParseStageError> {
        CompilerStage::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn arguments_of_a_stage_parse_as_that_stage() {
        let limits = CompilerLimits {
            memory_bytes: 5,
            cpu_seconds: 7,
        };
        for stage in [
            CompilerStage::Publish,
            CompilerStage::CompileConfined(limits),
        ] {
            let arguments = stage.arguments();
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            assert_eq!(parse(&arguments), Ok(stage));
        }
    }

    #[test]
    fn other_arguments_are_refused() {
        for arguments in [
            &[][..],
            &["--help"],
            &["publish", "x"],
            &["compile-confined"],
            &["compile-confined", "--memory-bytes=x", "--cpu-seconds=1"],
            &["compile-confined", "--cpu-seconds=1", "--memory-bytes=1"],
        ] {
            assert_eq!(parse(arguments), Err(ParseStageError), "{arguments:?}");
        }
    }
}
