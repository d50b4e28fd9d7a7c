//! Assembles the rules into a program for the kernel.
//!
//! Pure. Called by [`super::Fence::close`] in the guest's process: this takes microseconds, where
//! libseccomp takes longer than the whole start may.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use libc::sock_filter;

use super::rules::{Answer, Check, Rule};
use crate::seccomp::steps::{
    ALLOW, ARCHITECTURE, AT_LEAST, BITS, EQUAL, JUMP, LOAD, NUMBER, RETURN, THIS_ARCHITECTURE,
    high_half, low_half, step,
};

/// What is not allowed ends the process, which says why: see [`super::alarm`].
pub(super) const REFUSE: u32 = libc::SECCOMP_RET_TRAP;

/// Both set-id bits.
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// So many rules are compared one after the other.
const FEW: usize = 3;

/// The call fails with this error.
pub(super) const fn fail(errno: libc::c_int) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// The program for the kernel. Numbers of another numbering (x32) are higher than all of the list. Of two
/// rules for one number the later one counts.
pub(super) fn assemble<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Vec<sock_filter> {
    let by_number: BTreeMap<_, _> = rules.into_iter().map(|rule| (rule.number, rule)).collect();
    let sorted: Vec<_> = by_number.into_values().collect();
    let mut program = vec![
        step(LOAD, ARCHITECTURE, 0, 0),
        step(EQUAL, THIS_ARCHITECTURE, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, NUMBER, 0, 0),
    ];
    program.extend(search(&sorted));
    program
}

/// Finds the rule of a number by halves. At its start the kernel asks a filter about every number that
/// there is: a list would double the time that it takes.
fn search(rules: &[&Rule]) -> Vec<sock_filter> {
    if rules.len() <= FEW {
        let mut steps: Vec<_> = rules.iter().flat_map(|rule| one(rule)).collect();
        steps.push(step(RETURN, REFUSE, 0, 0));
        return steps;
    }
    let (lower, upper) = rules.split_at(rules.len() / 2);
    let lower = search(lower);
    let mut steps = match u8::try_from(lower.len()) {
        Ok(short) => vec![step(AT_LEAST, number(upper[0]), short, 0)],
        // A condition jumps no farther than a byte says.
        Err(_) => vec![
            step(AT_LEAST, number(upper[0]), 0, 1),
            step(JUMP, u32::try_from(lower.len()).unwrap_or(u32::MAX), 0, 0),
        ],
    };
    steps.extend(lower);
    steps.extend(search(upper));
    steps
}

fn one(rule: &Rule) -> Vec<sock_filter> {
    let body = body(rule);
    let mut steps = vec![step(EQUAL, number(rule), 0, distance(body.len()))];
    steps.extend(body);
    steps
}

/// Every number of a system call is small and positive.
fn number(rule: &Rule) -> u32 {
    u32::try_from(rule.number).unwrap_or(u32::MAX)
}

/// How many steps a jump leaves out. A list that is too long for one would end at a wrong step, which
/// the tests would find: they ask for every number.
fn distance(steps: usize) -> u8 {
    u8::try_from(steps).unwrap_or(u8::MAX)
}

/// What is done with the call once its number has been found.
fn body(rule: &Rule) -> Vec<sock_filter> {
    let checks = match rule.answer {
        Answer::Allow(checks) => checks,
        Answer::Fail(errno) => return vec![step(RETURN, fail(errno), 0, 0)],
    };
    let mut body = Vec::new();
    for check in checks {
        match *check {
            Check::Only { argument, bits } => {
                body.push(step(LOAD, low_half(argument), 0, 0));
                body.push(step(BITS, !bits, 0, 1));
                body.push(step(RETURN, REFUSE, 0, 0));
            }
            Check::Mode { argument } => {
                body.push(step(LOAD, low_half(argument), 0, 0));
                body.push(step(BITS, SET_ID, 0, 1));
                body.push(step(RETURN, fail(libc::EPERM), 0, 0));
            }
            Check::OneOf { argument, values } => {
                body.push(step(LOAD, low_half(argument), 0, 0));
                for (index, value) in values.iter().enumerate() {
                    // Over the other values and the refusal.
                    body.push(step(EQUAL, *value, distance(values.len() - index), 0));
                }
                body.push(step(RETURN, REFUSE, 0, 0));
            }
            Check::Null { argument } => {
                for half in [low_half(argument), high_half(argument)] {
                    body.push(step(LOAD, half, 0, 0));
                    body.push(step(EQUAL, 0, 1, 0));
                    body.push(step(RETURN, REFUSE, 0, 0));
                }
            }
            Check::OneOfGroup {
                group,
                argument,
                groups,
            } => body.extend(one_of_group(group, argument, groups)),
        }
    }
    body.push(step(RETURN, ALLOW, 0, 0));
    body
}

/// Falls out at its end if the check holds.
fn one_of_group(group: u8, argument: u8, groups: &[(u32, &[u32])]) -> Vec<sock_filter> {
    let mut steps = vec![step(RETURN, REFUSE, 0, 0)];
    // From the last group to the first, since jumps lead on.
    for (kind, values) in groups.iter().rev() {
        let mut own = vec![
            step(LOAD, low_half(group), 0, 0),
            step(EQUAL, *kind, 0, distance(values.len() + 2)),
            step(LOAD, low_half(argument), 0, 0),
        ];
        for (index, value) in values.iter().enumerate() {
            // Over the other values, the refusal and the groups behind.
            let rest = values.len() - index + steps.len();
            own.push(step(EQUAL, *value, distance(rest), 0));
        }
        own.push(step(RETURN, REFUSE, 0, 0));
        own.append(&mut steps);
        steps = own;
    }
    steps
}
