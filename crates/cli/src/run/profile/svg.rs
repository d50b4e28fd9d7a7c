//! A flame graph: one SVG file that needs nothing else. Frames are as wide as their share of the samples, callers beneath
//! what they called, in the order of their names. A script in it (`flamegraph.js`) enlarges and searches.

use std::fmt::{self, Display};
use std::io::{self, Write};

use super::recording::CpuProfile;
use super::tree::Frame;

/// In pixels, as all sizes here.
const WIDTH: f64 = 1200.0;
const ROW: usize = 17;
/// Above and below the frames.
const HEAD: usize = 48;
const FOOT: usize = 8;
/// Narrower frames are left out, with what they called.
const NARROWEST: f64 = 0.2;

const STYLE: &str = "\
text { font: 12px monospace; fill: #111; }
.f { cursor: pointer; }
.f rect { stroke: #fff; stroke-width: 0.5; }
.f:hover rect { stroke: #000; }
.all rect { fill: #d8d8d8; }
.host rect { fill: #8fb7e8; }
.kernel rect { fill: #b9a3dc; }
.other rect { fill: #c4c4c4; }
.guest0 rect { fill: #f6b26b; }
.guest1 rect { fill: #f9c389; }
.guest2 rect { fill: #f39c5a; }
.guest3 rect { fill: #ffd27f; }
.match rect { fill: #ef5fd0; }
#found { cursor: pointer; text-decoration: underline; }";

const SCRIPT: &str = include_str!("flamegraph.js");

/// A frame at its place.
struct Placed<'a> {
    name: &'a str,
    class: &'static str,
    /// Samples to its left, in it, and in it alone.
    left: u64,
    total: u64,
    own: u64,
    depth: usize,
}

/// Writes the graph; `title` and `about` are above it.
pub(super) fn write(
    profile: &CpuProfile,
    title: &str,
    about: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let samples = profile.tree.samples();
    let frames = placed(profile);
    let rows = frames.iter().map(|frame| frame.depth + 1).max();
    let height = HEAD + rows.unwrap_or(0) * ROW + FOOT;
    writeln!(
        out,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">
<title>{title}</title>
<style>
{STYLE}
</style>
<rect width="100%" height="100%" fill="white"/>
<text x="6" y="18">{title}</text>
<text x="6" y="36">{about}</text>
<text x="{right}" y="36" text-anchor="end" id="found">search</text>"#,
        title = Escaped(title),
        about = Escaped(about),
        right = WIDTH - 6.0,
    )?;
    let share = |part: u64| part as f64 / samples as f64;
    for frame in &frames {
        let Placed {
            name,
            class,
            left,
            total,
            own,
            depth,
        } = frame;
        let name = Escaped(name);
        let y = height - FOOT - (depth + 1) * ROW;
        // An svg within the svg hides the part of a name for which there is no room.
        writeln!(
            out,
            r#"<svg class="f {class}" data-x="{left}" data-n="{total}" data-d="{depth}""#
        )?;
        writeln!(
            out,
            r#" x="{x:.2}" y="{y}" width="{width:.2}" height="{ROW}"><title>{name}"#,
            x = share(*left) * WIDTH,
            width = share(*total) * WIDTH,
        )?;
        writeln!(
            out,
            "{percent:.2} % of all samples: {total}, {own} of them in its own code</title>",
            percent = share(*total) * 100.0,
        )?;
        writeln!(
            out,
            r#"<rect width="100%" height="100%"/><text x="3" y="13">{name}</text></svg>"#
        )?;
    }
    writeln!(out, "<script><![CDATA[\n{SCRIPT}]]></script>\n</svg>")
}

/// The frames that are wide enough, callers before what they called. None if there are no samples.
fn placed(profile: &CpuProfile) -> Vec<Placed<'_>> {
    let (tree, symbols) = (&profile.tree, &profile.symbols);
    let least = NARROWEST / WIDTH * tree.samples() as f64;
    let mut placed = Vec::new();
    let mut waiting = vec![(tree.root(), "all", "all", 0, 0)];
    while let Some((node, name, class, left, depth)) = waiting.pop() {
        if node.total == 0 || (node.total as f64) < least {
            continue;
        }
        placed.push(Placed {
            name,
            class,
            left,
            total: node.total,
            own: node.own,
            depth,
        });
        let mut children: Vec<_> = node
            .children
            .iter()
            .map(|(frame, child)| (symbols.name(*frame), *frame, tree.node(*child)))
            .collect();
        children.sort_by_key(|(name, frame, _)| (*name, *frame));
        let mut left = left;
        let first = waiting.len();
        for (name, frame, child) in children {
            waiting.push((child, name, class_of(frame), left, depth + 1));
            left += child.total;
        }
        waiting[first..].reverse();
    }
    placed
}

/// Neighbours of one kind are told apart by their shade.
fn class_of(frame: Frame) -> &'static str {
    match frame {
        Frame::Guest(number) => ["guest0", "guest1", "guest2", "guest3"][(number % 4) as usize],
        Frame::Host => "host",
        Frame::Kernel => "kernel",
        Frame::Unknown | Frame::Cut => "other",
    }
}

/// Text in XML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\t' | '\n' | '\r' => write!(f, "{c}")?,
                // XML has no such characters, not even as references.
                '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::symbols::Symbols;
    use super::super::tree::CallTree;
    use super::*;

    fn graph(names: &[&str], stacks: &[&[Frame]], title: &str) -> String {
        let mut tree = CallTree::new();
        for stack in stacks {
            tree.add(stack);
        }
        let profile = CpuProfile {
            tree,
            symbols: Symbols::named(names),
            lost: 0,
            throttled: 0,
        };
        let mut out = Vec::new();
        write(&profile, title, "about", &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The frames: name, x, width, y.
    fn frames(graph: &str) -> Vec<(String, f64, f64, f64)> {
        let document = roxmltree::Document::parse(graph).unwrap();
        document
            .root_element()
            .children()
            .filter(|node| node.tag_name().name() == "svg")
            .map(|frame| {
                let number = |key| frame.attribute(key).unwrap().parse().unwrap();
                let text = frame
                    .children()
                    .find(|node| node.tag_name().name() == "text");
                let name = text.unwrap().text().unwrap().to_owned();
                (name, number("x"), number("width"), number("y"))
            })
            .collect()
    }

    #[test]
    fn widths_are_shares_and_callers_are_beneath() {
        let (main, a, b) = (Frame::Guest(0), Frame::Guest(1), Frame::Guest(2));
        let graph = graph(
            &["main", "a", "b"],
            &[&[main, b], &[main, a], &[main, b], &[main, b, Frame::Host]],
            "program",
        );
        let frames = frames(&graph);
        let names: Vec<_> = frames.iter().map(|frame| frame.0.as_str()).collect();
        assert_eq!(names, ["all", "main", "a", "b", "[host]"]);
        let widths: Vec<_> = frames.iter().map(|frame| frame.2).collect();
        assert_eq!(widths, [1200.0, 1200.0, 300.0, 900.0, 300.0]);
        let left: Vec<_> = frames.iter().map(|frame| frame.1).collect();
        assert_eq!(left, [0.0, 0.0, 0.0, 300.0, 300.0]);
        assert!(frames[0].3 > frames[1].3 && frames[1].3 > frames[2].3);
        assert!(graph.contains("75.00 % of all samples: 3, 2 of them in its own code"));
    }

    #[test]
    fn names_and_titles_are_text() {
        let name = "a<b> && \"c\"]]></script><script>";
        let graph = graph(&[name], &[&[Frame::Guest(0)]], "--say <&\u{1}>");
        assert_eq!(frames(&graph)[1].0, name);
        let document = roxmltree::Document::parse(&graph).unwrap();
        let scripts = document
            .descendants()
            .filter(|node| node.tag_name().name() == "script");
        assert_eq!(scripts.count(), 1);
        let title = document
            .descendants()
            .find(|node| node.tag_name().name() == "title");
        assert_eq!(title.unwrap().text(), Some("--say <&\u{fffd}>"));
    }

    #[test]
    fn graph_asks_for_nothing_else() {
        let graph = graph(&["main"], &[&[Frame::Guest(0)]], "program");
        let namespace = "http://www.w3.org/2000/svg";
        assert_eq!(
            graph.matches("://").count(),
            graph.matches(namespace).count()
        );
        assert!(!graph.contains("href"));
    }

    #[test]
    fn graph_without_samples_is_a_document() {
        assert_eq!(frames(&graph(&[], &[], "program")).len(), 0);
    }

    #[test]
    fn narrow_frames_are_left_out() {
        let mut stacks: Vec<&[Frame]> = vec![&[Frame::Guest(0)]; 10_000];
        stacks.push(&[Frame::Guest(1)]);
        let graph = graph(&["wide", "narrow"], &stacks, "program");
        assert_eq!(frames(&graph).len(), 2);
    }
}
