//! Folded stacks, as flamegraph.pl, inferno and speedscope read them: a line for each stack, its frames from the
//! outermost inwards with semicolons between, a space, and the number of samples.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::recording::CpuProfile;

/// Writes the stacks in the order of their text.
pub(super) fn write(profile: &CpuProfile, out: &mut dyn Write) -> io::Result<()> {
    let tree = &profile.tree;
    // Names of different functions may be the same here.
    let mut lines = BTreeMap::<String, u64>::new();
    let mut waiting = vec![(tree.root(), String::new())];
    while let Some((node, stack)) = waiting.pop() {
        for (frame, child) in &node.children {
            // Rust's arrays have one.
            let name = profile.symbols.name(*frame).replace(';', ":");
            let separator = if stack.is_empty() { "" } else { ";" };
            waiting.push((tree.node(*child), format!("{stack}{separator}{name}")));
        }
        if node.own > 0 {
            *lines.entry(stack).or_default() += node.own;
        }
    }
    for (stack, samples) in lines {
        writeln!(out, "{stack} {samples}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::symbols::Symbols;
    use super::super::tree::{CallTree, Frame};
    use super::*;

    #[test]
    fn each_stack_is_a_line() {
        let symbols = Symbols::named(&["main", "<[u8; 4] as Sum>::sum"]);
        let mut tree = CallTree::new();
        tree.add(&[Frame::Guest(0)]);
        tree.add(&[Frame::Guest(0), Frame::Guest(1)]);
        tree.add(&[Frame::Guest(0), Frame::Guest(1)]);
        tree.add(&[Frame::Guest(0), Frame::Guest(1), Frame::Host, Frame::Kernel]);
        tree.add(&[Frame::Cut, Frame::Unknown]);
        let profile = CpuProfile {
            tree,
            symbols,
            lost: 0,
            throttled: 0,
        };
        let mut out = Vec::new();
        write(&profile, &mut out).unwrap();
        let expected = "[deeper];[unknown] 1\n\
                        main 1\n\
                        main;<[u8: 4] as Sum>::sum 2\n\
                        main;<[u8: 4] as Sum>::sum;[host];[kernel] 1\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
