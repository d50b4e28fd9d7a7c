//! Parses a `#!` line as execve(2) does, and as `env` does if the line names `env`. It only reads text;
//! [`crate::program`] finds the file of a name.

/// A parsed `#!` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shebang {
    /// The interpreter as the line names it.
    pub(crate) interpreter: String,
    /// Arguments between the interpreter and the script.
    pub(crate) args: Vec<String>,
    /// Variables that `env -S` sets.
    pub(crate) env: Vec<(String, String)>,
}

impl Shebang {
    /// Parses `line`, which is without `#!`. The error names the cause and the way out.
    pub(crate) fn parse(line: &str) -> Result<Self, &'static str> {
        let (interpreter, argument) = line
            .split_once([' ', '\t'])
            .map_or((line, ""), |(interpreter, rest)| {
                (interpreter, rest.trim_matches([' ', '\t']))
            });
        if interpreter.is_empty() {
            return Err("it names no interpreter; name one, as in #!/usr/bin/env python");
        }
        if interpreter.rsplit('/').next() == Some("env") {
            return env(argument);
        }
        // execve(2): the rest of the line is a single argument.
        let args = if argument.is_empty() {
            Vec::new()
        } else {
            vec![argument.to_owned()]
        };
        Ok(Self {
            interpreter: interpreter.to_owned(),
            args,
            env: Vec::new(),
        })
    }
}

/// Parses the single argument that the kernel gives to env(1).
fn env(argument: &str) -> Result<Shebang, &'static str> {
    let split = ["-S", "--split-string=", "--split-string "]
        .iter()
        .find_map(|option| argument.strip_prefix(option));
    let words = match split {
        Some(text) => words(text)?,
        None if argument.contains([' ', '\t']) => {
            return Err("env takes one argument there; write env -S to give it several");
        }
        None => vec![argument.to_owned()],
    };
    let mut words = words.into_iter().peekable();
    let mut env = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        env.push((name.to_owned(), value.to_owned()));
        words.next();
    }
    match words.next() {
        Some(word) if word.starts_with('-') => {
            Err("of env's options only -S is understood; name the interpreter directly")
        }
        Some(interpreter) if !interpreter.is_empty() => Ok(Shebang {
            interpreter,
            args: words.collect(),
            env,
        }),
        _ => Err("env is given no interpreter; name one, as in #!/usr/bin/env python"),
    }
}

/// Splits as `env -S` does: blanks, single and double quotes, backslash.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (' ' | '\t', None) => words.extend(word.take()),
            ('$', None | Some('"')) => {
                return Err("env -S with a variable is not understood; write its value");
            }
            ('\\', None | Some('"')) => {
                let escaped = chars.next().ok_or("it ends with a backslash; remove it")?;
                word.get_or_insert_default().push(escaped);
            }
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote in it is not closed; close it");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> (String, Vec<String>) {
        let shebang = Shebang::parse(line).unwrap();
        (shebang.interpreter, shebang.args)
    }

    fn expect(interpreter: &str, args: &[&str]) -> (String, Vec<String>) {
        (
            interpreter.into(),
            args.iter().map(|&arg| arg.into()).collect(),
        )
    }

    #[test]
    fn what_follows_the_interpreter_is_one_argument() {
        assert_eq!(parsed("/usr/bin/python3"), expect("/usr/bin/python3", &[]));
        assert_eq!(
            parsed("/usr/bin/python3\t-u -B"),
            expect("/usr/bin/python3", &["-u -B"])
        );
        // For the kernel only the space and the tab are blanks.
        assert_eq!(
            parsed("/a  \u{3000}b\u{a0} "),
            expect("/a", &["\u{3000}b\u{a0}"])
        );
    }

    #[test]
    fn env_names_the_interpreter() {
        assert_eq!(parsed("/usr/bin/env python"), expect("python", &[]));
        assert_eq!(
            parsed("/usr/bin/env -S python -u"),
            expect("python", &["-u"])
        );
        assert_eq!(
            parsed("/usr/bin/env -Spython -u"),
            expect("python", &["-u"])
        );
        assert_eq!(
            parsed(r#"/bin/env --split-string=python -c 'a b' "c\"d" e\ f"#),
            expect("python", &["-c", "a b", "c\"d", "e f"])
        );
    }

    #[test]
    fn env_sets_variables() {
        let shebang = Shebang::parse("/usr/bin/env -S A=1 B= python").unwrap();
        assert_eq!(shebang.interpreter, "python");
        assert_eq!(
            shebang.env,
            [("A".into(), "1".into()), ("B".into(), String::new())]
        );
    }

    #[test]
    fn shebang_that_cannot_be_followed_is_an_error() {
        for (line, why) in [
            ("", "no interpreter"),
            ("/usr/bin/env", "no interpreter"),
            ("/usr/bin/env python -u", "env -S"),
            ("/usr/bin/env -S -i python", "options"),
            ("/usr/bin/env -i", "options"),
            ("/usr/bin/env -S python 'x", "quote"),
            ("/usr/bin/env -S python $HOME", "variable"),
            ("/usr/bin/env -S python \\", "backslash"),
        ] {
            let error = Shebang::parse(line).unwrap_err();
            assert!(
                error.contains(why),
                "{line:?}: {error:?} does not say {why:?}"
            );
        }
    }
}
