//! A text that somebody waits for in a stream. A stream without one costs nothing.

/// A text, and whom to tell when it was seen.
pub(crate) struct Look {
    text: Vec<u8>,
    /// The end of what has passed in the present line: the text may lie across two reads.
    tail: Vec<u8>,
    found: Option<Box<dyn FnOnce() + Send>>,
}

impl Look {
    /// `text` lies within one line and is not empty. `found` must not wait: all output waits with it.
    pub(crate) fn new(text: &str, found: Box<dyn FnOnce() + Send>) -> Self {
        Self { text: text.as_bytes().to_vec(), tail: Vec::new(), found: Some(found) }
    }

    /// Looks through what comes next; whether the text was seen, which is told.
    pub(super) fn sees(&mut self, bytes: &[u8]) -> bool {
        let most = self.text.len().saturating_sub(1);
        let ends = self.text.len() <= bytes.len() && contains(bytes, &self.text);
        let across = || {
            let joint = [&self.tail[..], &bytes[..bytes.len().min(most)]].concat();
            contains(&joint, &self.text)
        };
        if ends || across() {
            if let Some(found) = self.found.take() {
                found();
            }
            return true;
        }
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(most)..]);
        self.tail.drain(..self.tail.len().saturating_sub(most));
        false
    }
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("text", &String::from_utf8_lossy(&self.text)).finish_non_exhaustive()
    }
}

/// By its first byte first: most output has few of those.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        if rest[at..].starts_with(text) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, pieces: &[&str]) -> Option<usize> {
        let mut look = Look::new(text, Box::new(|| {}));
        pieces.iter().position(|piece| look.sees(piece.as_bytes()))
    }

    #[test]
    fn a_text_is_seen_in_one_read_and_across_several() {
        assert_eq!(seen("ready", &["so", "it is ready\n"]), Some(1));
        assert_eq!(seen("ready", &["it is re", "ad", "y now"]), Some(2));
        assert_eq!(seen("ready", &["r", "e", "a", "d", "y"]), Some(4));
        assert_eq!(seen("ready", &["re", "xady", "read", "x"]), None);
        assert_eq!(seen("aab", &["aa", "ab"]), Some(1));
        assert_eq!(seen("x", &["", "abc", "x"]), Some(2));
    }
}
