//! Figures and their text: percentiles, tables, and a section of a Markdown file. Knows nothing of clusters.

/// The smallest of `values` that `percent` of them do not exceed (nearest rank). NaN of nothing.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    let found = sorted.get(rank.saturating_sub(1));
    found.copied().unwrap_or(f64::NAN)
}

/// A table in Markdown, which is legible in a terminal too: the first column is text, the others are figures.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let cells = |row: &[String]| format!("| {} |\n", row.join(" | "));
    let titles: Vec<String> = header.iter().map(|&title| title.to_owned()).collect();
    let mut text = cells(&titles);
    text += &format!("|---|{}\n", "---:|".repeat(columns - 1));
    for row in rows {
        text += &cells(row);
    }
    text
}

/// The file's text with `section` as its last one: in the place of the one that has the same heading, and of
/// all that follows it, or at the end.
pub(crate) fn with_section(file: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let before = match file.split_once(&format!("\n{heading}\n")) {
        Some((before, _)) => before,
        None => file,
    };
    format!("{}\n\n{}\n", before.trim_end(), section.trim_end())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (percent, wanted) in [(0, 1.0), (1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)] {
            assert_eq!(super::percentile(&hundred, percent), wanted, "p{percent}");
        }
        assert_eq!(super::percentile(&[3.0, 1.0, 2.0], 50), 2.0);
        assert_eq!(super::percentile(&[3.0, 1.0, 2.0], 99), 3.0);
        assert_eq!(super::percentile(&[7.0], 50), 7.0);
        assert!(super::percentile(&[], 50).is_nan());
    }

    #[test]
    fn a_table_has_its_figures_on_the_right() {
        let rows = [vec!["start".to_owned(), "1.00 ×".to_owned()]];
        assert_eq!(
            super::table(&["", "ratio"], &rows),
            "|  | ratio |\n|---|---:|\n| start | 1.00 × |\n"
        );
    }

    #[test]
    fn a_section_takes_the_place_of_the_one_before() {
        let first = super::with_section("# Benchmarks\n\nText.\n", "## On a cluster\n\none\n");
        assert_eq!(first, "# Benchmarks\n\nText.\n\n## On a cluster\n\none\n");
        let second = super::with_section(&first, "## On a cluster\n\ntwo\n\n### more\n");
        assert_eq!(
            second,
            "# Benchmarks\n\nText.\n\n## On a cluster\n\ntwo\n\n### more\n"
        );
    }
}
