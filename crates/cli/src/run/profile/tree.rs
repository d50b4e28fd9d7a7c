//! Samples by their stacks: a tree of calls. It knows frames by number, not by name, and neither the kernel nor a file.

use std::collections::BTreeMap;

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Frame {
    /// A guest's function, by the number of its name.
    Guest(u32),
    /// The guest's native code, but none of its functions.
    Unknown,
    /// What runs the guest: host functions, and the engine's own code.
    Host,
    /// The kernel, called by the frame beneath.
    Kernel,
    /// The outer frames of a stack that is deeper than the kernel writes.
    Cut,
}

/// The samples. Node 0 is the root, which is no frame.
#[derive(Debug)]
pub(super) struct CallTree {
    nodes: Vec<Node>,
}

/// A frame that was reached through certain others.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Samples in it or in what it called.
    pub(super) total: u64,
    /// Samples in it alone.
    pub(super) own: u64,
    pub(super) children: BTreeMap<Frame, usize>,
}

impl CallTree {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Adds a sample, whose frames are from the outermost inwards.
    pub(super) fn add(&mut self, stack: &[Frame]) {
        let mut at = 0;
        self.nodes[at].total += 1;
        for frame in stack {
            let new = self.nodes.len();
            at = *self.nodes[at].children.entry(*frame).or_insert(new);
            if at == new {
                self.nodes.push(Node::default());
            }
            self.nodes[at].total += 1;
        }
        self.nodes[at].own += 1;
    }

    /// All samples.
    pub(super) fn samples(&self) -> u64 {
        self.nodes[0].total
    }

    pub(super) fn root(&self) -> &Node {
        &self.nodes[0]
    }

    pub(super) fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_stack_are_counted_once_per_frame() {
        let mut tree = CallTree::new();
        tree.add(&[Frame::Guest(0), Frame::Guest(1)]);
        tree.add(&[Frame::Guest(0), Frame::Guest(1), Frame::Host]);
        tree.add(&[Frame::Guest(0)]);
        assert_eq!(tree.samples(), 3);
        let outer = tree.node(tree.root().children[&Frame::Guest(0)]);
        assert_eq!((outer.total, outer.own), (3, 1));
        let inner = tree.node(outer.children[&Frame::Guest(1)]);
        assert_eq!((inner.total, inner.own), (2, 1));
    }

    #[test]
    fn recursion_is_a_frame_for_each_call() {
        let mut tree = CallTree::new();
        tree.add(&[Frame::Guest(7), Frame::Guest(7)]);
        let outer = tree.node(tree.root().children[&Frame::Guest(7)]);
        let inner = tree.node(outer.children[&Frame::Guest(7)]);
        assert_eq!((outer.total, outer.own), (1, 0));
        assert_eq!((inner.total, inner.own), (1, 1));
    }
}
