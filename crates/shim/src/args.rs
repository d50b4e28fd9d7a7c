//! The command line that containerd uses: Go's flags, then an optional action.
//!
//! Called by `main`. Reads the arguments and decides nothing.
#![forbid(unsafe_code)]

/// The command line, read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// What to do.
    pub(crate) action: Action,
    /// Log at debug level.
    pub(crate) debug: bool,
    /// containerd namespace of the container.
    pub(crate) namespace: String,
    /// Container id.
    pub(crate) id: String,
    /// Address of the socket that the server listens on (our own flag, set by `start`).
    pub(crate) socket: String,
    /// Bundle directory, if it is not the working directory (`delete`).
    pub(crate) bundle: String,
    /// containerd's gRPC address.
    pub(crate) address: String,
}

/// What the shim is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// `-info`
    Info,
    /// `start`
    Start,
    /// `delete`
    Delete,
    /// No action: be the server.
    #[default]
    Serve,
}

/// The command line is not one of containerd's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ArgsError {
    #[error("cannot read the command line: {0:?} is not a flag of this program; see -h")]
    UnknownFlag(String),
    #[error("cannot read the command line: flag {0:?} has no value; add one after it")]
    MissingValue(String),
    #[error("cannot read the command line: flag -{flag} is {value:?}; give true or false")]
    NotBoolean { flag: String, value: String },
    #[error("cannot read the command line: {0:?} is not an action; give start or delete, or none")]
    UnknownAction(String),
    #[error("cannot read the command line: the containerd namespace is missing; give -namespace")]
    NoNamespace,
    #[error("cannot read the command line: the container id is missing; give -id")]
    NoId,
}

impl Flags {
    /// Reads `-flag value`, `-flag=value` and the same with two dashes, as Go's `flag` does.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, ArgsError> {
        let mut flags = Flags::default();
        let (mut help, mut version, mut info) = (false, false, false);
        let mut action = None;
        let mut args = args;
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix('-') else {
                action = Some(arg);
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "h" | "help" => help = boolean(name, inline.as_deref())?,
                "v" | "version" => version = boolean(name, inline.as_deref())?,
                "info" => info = boolean(name, inline.as_deref())?,
                "debug" => flags.debug = boolean(name, inline.as_deref())?,
                _ => {
                    let place = match name {
                        "namespace" => Some(&mut flags.namespace),
                        "id" => Some(&mut flags.id),
                        "socket" => Some(&mut flags.socket),
                        "bundle" => Some(&mut flags.bundle),
                        "address" => Some(&mut flags.address),
                        // containerd gives them. Events go to TTRPC_ADDRESS instead, and there is
                        // no second socket.
                        "publish-binary" | "debug-socket" => None,
                        _ => return Err(ArgsError::UnknownFlag(arg)),
                    };
                    let value = inline
                        .or_else(|| args.next())
                        .ok_or_else(|| ArgsError::MissingValue(arg.clone()))?;
                    if let Some(place) = place {
                        *place = value;
                    }
                }
            }
        }
        flags.action = match action.as_deref() {
            _ if help => Action::Help,
            _ if version => Action::Version,
            _ if info => Action::Info,
            None => Action::Serve,
            Some("start") => Action::Start,
            Some("delete") => Action::Delete,
            Some(other) => return Err(ArgsError::UnknownAction(other.to_owned())),
        };
        if matches!(flags.action, Action::Start | Action::Delete | Action::Serve) {
            if flags.namespace.is_empty() {
                return Err(ArgsError::NoNamespace);
            }
            if flags.id.is_empty() {
                return Err(ArgsError::NoId);
            }
        }
        Ok(flags)
    }
}

fn boolean(flag: &str, value: Option<&str>) -> Result<bool, ArgsError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(ArgsError::NotBoolean {
            flag: flag.to_owned(),
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags, ArgsError> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn start_as_containerd_calls_it() {
        let flags = parse(
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd \
             -id a1 -debug start",
        )
        .expect("parse");
        assert_eq!(
            flags,
            Flags {
                action: Action::Start,
                debug: true,
                namespace: "k8s.io".into(),
                id: "a1".into(),
                address: "/run/c.sock".into(),
                ..Flags::default()
            }
        );
    }

    #[test]
    fn flags_have_one_or_two_dashes_and_values_after_a_space_or_an_equals_sign() {
        let flags = parse("--namespace=n -id=x --bundle /b --debug=false delete").expect("parse");
        assert_eq!(flags.action, Action::Delete);
        assert_eq!(flags.bundle, "/b");
        assert!(!flags.debug);
    }

    #[test]
    fn help_version_and_info_need_no_other_flag() {
        assert_eq!(parse("--help").expect("parse").action, Action::Help);
        assert_eq!(parse("-v").expect("parse").action, Action::Version);
        assert_eq!(parse("-info").expect("parse").action, Action::Info);
    }

    #[test]
    fn unknown_and_incomplete_arguments_are_refused() {
        assert_eq!(
            parse("-namespace n -id x pause"),
            Err(ArgsError::UnknownAction("pause".into()))
        );
        assert_eq!(parse("start"), Err(ArgsError::NoNamespace));
        assert_eq!(parse("-namespace n start"), Err(ArgsError::NoId));
        assert_eq!(parse("-id"), Err(ArgsError::MissingValue("-id".into())));
        assert_eq!(parse("-x"), Err(ArgsError::UnknownFlag("-x".into())));
        assert!(matches!(
            parse("-debug=maybe"),
            Err(ArgsError::NotBoolean { .. })
        ));
    }
}
