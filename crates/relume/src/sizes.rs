//! Sizes in words.

/// A size as people say it: `812 kB`, `6.4 MB`, `34 MB`, `1.2 GB`.
pub(crate) fn in_words(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000_000 => return format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    match bytes / unit {
        whole @ 0..10 => format!("{whole}.{} {name}", bytes % unit * 10 / unit),
        whole => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn a_size_has_two_digits_that_matter() {
        let sizes = [0, 812_345, 6_499_999, 34_900_000, 1_200_000_000, 64_000_000_000].map(in_words);
        assert_eq!(sizes, ["0 kB", "812 kB", "6.4 MB", "34 MB", "1.2 GB", "64 GB"]);
    }
}
