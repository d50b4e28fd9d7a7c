//! Finds the fields of the text that did not become part of the [`Spec`]. The runtime spec says that
//! unknown properties are ignored; this module makes a warning of each. Called by
//! [`super::parse_spec`].

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::error::SpecParseError;
use super::warning::{LONGEST_NAME, SpecWarning, Warnings};
use crate::causes::shortened;

/// The fields of all objects of the runtime spec. Programs in Go, for example runc, ignore the case of
/// field names.
const FIELDS: [&str; 114] = [
    "access",
    "action",
    "additionalGids",
    "allow",
    "ambient",
    "annotations",
    "apparmorProfile",
    "architectures",
    "args",
    "blockIO",
    "bounding",
    "burst",
    "capabilities",
    "cgroupsPath",
    "checkBeforeUpdate",
    "commandLine",
    "consoleSize",
    "containerID",
    "cpu",
    "cpus",
    "createContainer",
    "createRuntime",
    "cwd",
    "defaultAction",
    "defaultErrnoRet",
    "destination",
    "devices",
    "disableOOMKiller",
    "domainname",
    "effective",
    "env",
    "errnoRet",
    "execCPUAffinity",
    "fileMode",
    "flags",
    "gid",
    "gidMappings",
    "hard",
    "hooks",
    "hostID",
    "hostname",
    "hugepageLimits",
    "idle",
    "index",
    "inheritable",
    "intelRdt",
    "ioPriority",
    "kernel",
    "kernelTCP",
    "limit",
    "linux",
    "listenerMetadata",
    "listenerPath",
    "major",
    "maskedPaths",
    "memory",
    "mems",
    "minor",
    "mountLabel",
    "mounts",
    "names",
    "namespaces",
    "netDevices",
    "network",
    "noNewPrivileges",
    "ociVersion",
    "oomScoreAdj",
    "op",
    "options",
    "path",
    "period",
    "permitted",
    "personality",
    "pids",
    "poststart",
    "poststop",
    "prestart",
    "process",
    "quota",
    "rdma",
    "readonly",
    "readonlyPaths",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "resources",
    "rlimits",
    "root",
    "rootfsPropagation",
    "scheduler",
    "seccomp",
    "selinuxLabel",
    "shares",
    "size",
    "soft",
    "source",
    "startContainer",
    "swap",
    "swappiness",
    "syscalls",
    "sysctl",
    "terminal",
    "timeOffsets",
    "timeout",
    "type",
    "uid",
    "uidMappings",
    "umask",
    "unified",
    "useHierarchy",
    "user",
    "username",
    "value",
    "valueTwo",
];

/// Compares the text with the JSON form of `spec`.
///
/// # Errors
/// If only the case of a field differs from a field of the runtime spec: other runtimes honour it, and it
/// may protect something. Also if a value is a list or an object where the runtime spec has something else:
/// the types read a list as the fields of an object in their order, unchecked.
pub(super) fn report(
    text: &Value,
    spec: &Spec,
    warnings: &mut Warnings,
) -> Result<(), SpecParseError> {
    let known = serde_json::to_value(spec).map_err(SpecParseError::Json)?;
    compare(text, &known, "", warnings)
}

fn compare(
    text: &Value,
    known: &Value,
    path: &str,
    warnings: &mut Warnings,
) -> Result<(), SpecParseError> {
    match (text, known) {
        (Value::Object(text), Value::Object(known)) => {
            for (name, value) in text {
                let separator = if path.is_empty() { "" } else { "." };
                let field = format!("{path}{separator}{name}");
                match known.get(name) {
                    Some(known) => compare(value, known, &field, warnings)?,
                    None if is_empty(value) => {}
                    None => {
                        let field = shortened(&field, LONGEST_NAME);
                        if let Some(meant) = in_other_case(name) {
                            let problem = format!("the field is written {meant}");
                            return Err(SpecParseError::Value { field, problem });
                        }
                        warnings.add(SpecWarning::UnknownField { field });
                    }
                }
            }
        }
        (Value::Array(text), Value::Array(known)) if text.len() == known.len() => {
            let path = format!("{path}[]");
            for (text, known) in text.iter().zip(known) {
                compare(text, known, &path, warnings)?;
            }
        }
        (Value::Array(_) | Value::Object(_), Value::Array(_)) | (_, Value::Null) => {}
        (Value::Array(_) | Value::Object(_), known) => {
            let field = match path {
                "" => "the spec".to_owned(),
                path => shortened(path, LONGEST_NAME),
            };
            let problem = format!("it is {}, not {}", kind(text), kind(known));
            return Err(SpecParseError::Value { field, problem });
        }
        _ => {}
    }
    Ok(())
}

/// The kind of a JSON value, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The field of the runtime spec whose name differs from `name` only in case.
fn in_other_case(name: &str) -> Option<&'static str> {
    FIELDS
        .into_iter()
        .find(|field| *field != name && field.eq_ignore_ascii_case(name))
}

/// Whether the JSON form leaves out this value, known or unknown.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(entries) => entries.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
