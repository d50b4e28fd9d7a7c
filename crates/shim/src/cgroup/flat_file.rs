//! Flat keyed files of cgroups (the kernel's cgroup-v2 documentation, "Format"). Pure.
#![forbid(unsafe_code)]

/// The value of a key in a file of `key value` lines.
pub(crate) fn flat_value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_value_is_that_of_the_whole_key() {
        assert_eq!(flat_value("oom 1\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(flat_value("oom 1\n", "oom_kill"), None);
    }
}
