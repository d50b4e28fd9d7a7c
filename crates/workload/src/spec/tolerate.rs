//! Accepts values that the parser's types cannot represent but that are no reason to refuse a
//! container, and refuses values that the types would accept. Called by [`super::parse_spec`].
//!
//! The types decide about all other values: they refuse an unknown value, and name its field.

use oci_spec::runtime::{Arch, Capability, LinuxSchedulerFlag};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::SpecParseError;
use super::warning::{LONGEST_NAME, SpecWarning, Warnings};
use crate::annotations;
use crate::causes::shortened;

type Object = Map<String, Value>;

/// The values that `rootfsPropagation` may have (mount_namespaces(7), each also recursive).
const PROPAGATIONS: [&str; 8] = [
    "private",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
    "shared",
    "slave",
    "unbindable",
];

/// Parts of a spec for other platforms.
const OTHER_PLATFORMS: [&str; 5] = ["freebsd", "solaris", "vm", "windows", "zos"];

/// Names of the runtime spec that the parser spells differently.
const SCHEDULER_FLAGS: [(&str, &str); 2] = [
    ("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"),
    ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN"),
];

/// Annotations that decide the kind of a container. Their values must not be ignored.
const ANNOTATIONS_THAT_DECIDE: [&str; 2] = [annotations::PREFIX, "io.kubernetes.cri."];

/// Changes `spec` to values that the types can represent.
pub(super) fn tolerate(spec: &mut Value, warnings: &mut Warnings) -> Result<(), SpecParseError> {
    let Some(spec) = spec.as_object_mut() else {
        // The types' own error says what is expected.
        return Ok(());
    };
    version(spec, warnings)?;
    for part in OTHER_PLATFORMS {
        if spec.remove(part).is_some() {
            let part = part.to_owned();
            warnings.add(SpecWarning::OtherPlatform { part });
        }
    }
    if let Some(annotations) = object(spec, "annotations") {
        self::annotations(annotations, warnings);
    }
    if let Some(process) = object(spec, "process") {
        self::process(process, warnings);
    }
    if let Some(linux) = object(spec, "linux") {
        self::linux(linux, warnings)?;
    }
    Ok(())
}

fn version(spec: &mut Object, warnings: &mut Warnings) -> Result<(), SpecParseError> {
    match spec.get("ociVersion") {
        None => {
            warnings.add(SpecWarning::NoVersion);
            spec.insert("ociVersion".to_owned(), json!("1.0.0"));
            Ok(())
        }
        Some(Value::String(version)) if !version.starts_with("1.") => Err(refused(
            "ociVersion",
            format!("{version:?} is not a version 1 of the runtime spec, which this version reads"),
        )),
        Some(_) => Ok(()),
    }
}

fn annotations(annotations: &mut Object, warnings: &mut Warnings) {
    annotations.retain(|name, value| {
        let decides = ANNOTATIONS_THAT_DECIDE
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let keep = value.is_string() || decides;
        let shown = || shortened(name, LONGEST_NAME);
        if !keep {
            warnings.add(SpecWarning::Annotation { name: shown() });
        } else if name.starts_with(annotations::PREFIX) && !annotations::is_known(name) {
            warnings.add(SpecWarning::UnknownAnnotation { name: shown() });
        }
        keep
    });
}

fn process(process: &mut Object, warnings: &mut Warnings) {
    // Go's zero value: root.
    process.entry("user").or_insert_with(|| json!({}));
    for (_, set) in object(process, "capabilities").into_iter().flatten() {
        keep_known::<Capability>(set, |name| {
            warnings.add(SpecWarning::UnknownCapability { name });
        });
    }
    let scheduler = object(process, "scheduler");
    let flags = scheduler.and_then(|scheduler| scheduler.get_mut("flags")?.as_array_mut());
    for flag in flags.into_iter().flatten() {
        let other = SCHEDULER_FLAGS
            .iter()
            .find(|(name, _)| flag.as_str() == Some(name));
        if let Some((_, other)) = other
            && !is_known::<LinuxSchedulerFlag>(flag)
        {
            *flag = json!(other);
        }
    }
    let affinity = object(process, "execCPUAffinity");
    for (_, processors) in affinity.into_iter().flatten() {
        if let Some(list) = processors.as_str() {
            *processors = json!(without_gaps(list));
        }
    }
}

/// A list of processors as Go's parser reads it: spaces and empty entries are allowed.
fn without_gaps(list: &str) -> String {
    let entries = list.split(',').map(str::trim);
    let entries: Vec<_> = entries.filter(|entry| !entry.is_empty()).collect();
    entries.join(",")
}

fn linux(linux: &mut Object, warnings: &mut Warnings) -> Result<(), SpecParseError> {
    if let Some(propagation) = linux.get("rootfsPropagation").and_then(Value::as_str)
        && !PROPAGATIONS.contains(&propagation)
    {
        let problem = format!("{propagation:?} is not one of {}", PROPAGATIONS.join(", "));
        return Err(refused("linux.rootfsPropagation", problem));
    }
    no_namespace_twice(linux)?;
    if let Some(personality) = object(linux, "personality")
        && let Some(Value::Array(flags)) = personality.remove("flags")
        && !flags.is_empty()
    {
        warnings.add(SpecWarning::PersonalityFlags);
    }
    if let Some(seccomp) = object(linux, "seccomp") {
        if let Some(architectures) = seccomp.get_mut("architectures") {
            keep_known::<Arch>(architectures, |name| {
                warnings.add(SpecWarning::UnknownArchitecture { name });
            });
        }
        let rules = seccomp.get("syscalls").and_then(Value::as_array);
        if !seccomp.contains_key("defaultAction") && rules.is_none_or(Vec::is_empty) {
            linux.remove("seccomp");
            warnings.add(SpecWarning::NoFilter);
        }
    }
    if let Some(resources) = object(linux, "resources") {
        self::resources(resources);
    }
    Ok(())
}

/// Refuses two namespaces of one type: the runtime would silently ignore one of them.
fn no_namespace_twice(linux: &Object) -> Result<(), SpecParseError> {
    let mut seen: Vec<&str> = Vec::new();
    let namespaces = linux.get("namespaces").and_then(Value::as_array);
    for namespace in namespaces.into_iter().flatten() {
        let Some(name) = namespace.get("type").and_then(Value::as_str) else {
            continue;
        };
        if seen.contains(&name) {
            let problem = format!("{name:?} is there twice");
            return Err(refused("linux.namespaces", problem));
        }
        seen.push(name);
    }
    Ok(())
}

fn resources(resources: &mut Object) {
    // -1 of Go's signed type, which means unset.
    if let Some(memory) = object(resources, "memory")
        && memory.get("swappiness").and_then(Value::as_u64) == Some(u64::MAX)
    {
        memory.remove("swappiness");
    }
    // Unsigned in the runtime spec, signed in the parser. Either maximum is more than a machine has.
    let limits = resources.get_mut("hugepageLimits");
    for limit in limits.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(limit) = limit.get_mut("limit")
            && limit
                .as_u64()
                .is_some_and(|bytes| i64::try_from(bytes).is_err())
        {
            *limit = json!(i64::MAX);
        }
    }
}

/// An error of the types, with the parser's names translated to the runtime spec's.
pub(super) fn in_words_of_the_spec(error: &str) -> String {
    let mut text = error.replace("unknown variant", "unknown value");
    for (name, parsers) in SCHEDULER_FLAGS {
        text = text.replace(&format!("`{parsers}`"), &format!("`{name}`"));
    }
    text
}

fn object<'a>(object: &'a mut Object, name: &str) -> Option<&'a mut Object> {
    object.get_mut(name)?.as_object_mut()
}

/// Whether the type can represent the value.
fn is_known<'de, T: Deserialize<'de>>(value: &'de Value) -> bool {
    T::deserialize(value).is_ok()
}

/// Removes the names that are not in `T`. The types refuse entries that are not strings.
fn keep_known<T: for<'de> Deserialize<'de>>(list: &mut Value, mut removed: impl FnMut(String)) {
    let Some(list) = list.as_array_mut() else {
        return;
    };
    list.retain(|name| {
        let unknown = name.as_str().filter(|_| !is_known::<T>(name));
        if let Some(name) = unknown {
            removed(shortened(name, LONGEST_NAME));
        }
        unknown.is_none()
    });
}

fn refused(field: &str, problem: String) -> SpecParseError {
    SpecParseError::Value {
        field: field.to_owned(),
        problem,
    }
}
