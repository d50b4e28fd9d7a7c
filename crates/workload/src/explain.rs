//! Describes a plan for the operator of the node. It leaves out the values of environment variables:
//! they may be secrets, and operators paste this text into tickets. Names of an image are escaped, because the
//! text goes to a terminal.

use std::fmt::Write;

use wasm_interp_network::{Network, NetworkMode, NetworkRules};

use crate::causes::printable;
use crate::plan::{FoundBy, Grant, GrantKind, GuestKind, MountAccess, NativePlan, Plan};

/// Describes what `plan` does and why.
#[must_use]
pub fn explain(plan: &Plan) -> String {
    let mut text = String::new();
    line(&mut text, "runs", &plan.interpreter.path);
    line(&mut text, "because", &because(&plan.interpreter.found));
    if plan.kind == GuestKind::Component {
        line(&mut text, "as", "a component: a command of WASI 0.2");
    }
    line(&mut text, "arguments", &words(&plan.argv));
    line(&mut text, "directory", &plan.cwd);
    line(&mut text, "environment", &names(&plan.env));
    text.push_str("may reach\n");
    table(
        &mut text,
        plan.grants
            .iter()
            .map(|grant| (grant.path.as_str(), reach(grant))),
    );
    text.push_str(&explain_network(&plan.network));
    if !plan.withheld.is_empty() {
        text.push_str("does not get\n");
        let withheld = plan.withheld.iter();
        table(
            &mut text,
            withheld.map(|item| (item.path.as_str(), item.reason.clone())),
        );
    }
    text.push_str("limits\n");
    let memory = plan.limits.memory_bytes.map_or_else(
        || "4 GiB, the most that Wasm can address".to_owned(),
        |bytes| format!("{}, then its allocations fail", size(bytes)),
    );
    let stack = format!("{}, deeper recursion traps", size(plan.limits.stack_bytes));
    let mut limits = vec![("memory", memory), ("stack", stack)];
    if let Some(tmp) = &plan.tmp {
        limits.push((
            &tmp.path,
            format!(
                "{}, added because the spec leaves none writable",
                size(tmp.bytes)
            ),
        ));
    }
    table(&mut text, limits.into_iter());
    text
}

/// Describes what runs natively and why.
#[must_use]
pub fn explain_native(native: &NativePlan) -> String {
    let mut text = String::new();
    line(&mut text, "runs", &native.interpreter.path);
    line(&mut text, "because", &because(&native.interpreter.found));
    line(
        &mut text,
        "as",
        "a native program: no Wasm sandbox, but all that its spec says, as under runc",
    );
    line(&mut text, "arguments", &words(&native.argv));
    line(&mut text, "directory", &native.cwd);
    line(&mut text, "environment", &names(&native.env));
    text
}

/// Describes what is granted of the network, as a part of [`explain`].
#[must_use]
pub fn explain_network(network: &Network) -> String {
    if network.is_none() {
        return "nothing else of the node, no network, no other process\n".to_owned();
    }
    let mut rows = rule_rows(network.granted());
    let ceiling = network.ceiling();
    if ceiling.mode == NetworkMode::None && network.has_names() {
        let within = format!("only at addresses within {}", listed(&ceiling.connect));
        rows.push(("names", within));
    }
    let mut text = "network\n".to_owned();
    table(&mut text, rows.into_iter());
    text.push_str("nothing else of the node, no other process\n");
    text
}

/// Describes rules, a line for each kind of them.
#[must_use]
pub fn explain_network_rules(rules: &NetworkRules) -> String {
    let mut text = String::new();
    table(&mut text, rule_rows(rules).into_iter());
    text
}

fn rule_rows(rules: &NetworkRules) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if rules.mode == NetworkMode::Pod {
        rows.push((
            "pod",
            "whatever the pod's network allows, but no link-local, multicast and metadata address"
                .to_owned(),
        ));
    }
    if !rules.listen.is_empty() {
        rows.push(("listen", listed(&rules.listen)));
    }
    if !rules.connect.is_empty() {
        rows.push(("connect", listed(&rules.connect)));
    }
    if rows.is_empty() {
        rows.push(("none", "nothing".to_owned()));
    }
    rows
}

fn listed<R: ToString>(rules: &[R]) -> String {
    let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
    rules.join(", ")
}

fn names(env: &[(String, String)]) -> String {
    let names: Vec<&str> = env.iter().map(|(name, _)| name.as_str()).collect();
    names.join(" ")
}

fn because(found: &FoundBy) -> String {
    match found {
        FoundBy::Annotation { .. } => {
            format!("annotation {} names it", crate::INTERPRETER_ANNOTATION)
        }
        FoundBy::ExactPath => "the command names this file".to_owned(),
        FoundBy::SearchPath { name } => format!("the command is {name:?}, and this is it on PATH"),
        FoundBy::Shebang { script, line } => format!("script {script} begins with #!{line}"),
        FoundBy::Extension { script, extension } => {
            format!("script {script} has no usable #! line, and .{extension} belongs to it")
        }
    }
}

fn reach(grant: &Grant) -> String {
    let access = match grant.access {
        MountAccess::ReadOnly => "read-only",
        MountAccess::Writable => "writable ",
    };
    let kind = match grant.kind {
        GrantKind::Directory => "directory",
        GrantKind::File => "file     ",
        GrantKind::Socket => "socket   ",
    };
    format!("{access}  {kind}  {}", grant.source)
}

fn words(argv: &[String]) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|arg| {
            let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
            if !arg.is_empty() && arg.chars().all(plain) {
                arg.clone()
            } else {
                format!("{arg:?}")
            }
        })
        .collect();
    quoted.join(" ")
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const UNITS: [(u64, &str); 2] = [(1 << 30, "GiB"), (MIB, "MiB")];
    for (unit, name) in UNITS {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    if bytes > MIB {
        // Readers need no more precision than a tenth of a MiB.
        return format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB);
    }
    format!("{bytes} bytes")
}

fn line(text: &mut String, name: &str, value: &str) {
    row(text, format_args!("{name:<11}  {}", printable(value)));
}

/// The widest first column of a table, in characters. A longer name moves its own line only. Since Rust 1.87 a width
/// of more than 65,535 panics.
const WIDEST: usize = 64;

fn table<'a>(text: &mut String, rows: impl Iterator<Item = (&'a str, String)>) {
    let rows: Vec<_> = rows
        .map(|(name, value)| (printable(name), printable(&value)))
        .collect();
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or_default()
        .min(WIDEST);
    for (name, value) in &rows {
        row(text, format_args!("  {name:<width$}  {value}"));
    }
}

fn row(text: &mut String, row: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{row}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_name_moves_no_other_line() {
        let long = format!("/{}", "a".repeat(70_000));
        let mut text = String::new();
        let rows = [(long.as_str(), "one".to_owned()), ("/b", "two".to_owned())];
        table(&mut text, rows.into_iter());
        assert_eq!(text, format!("  {long}  one\n  {:<64}  two\n", "/b"));
    }
}
