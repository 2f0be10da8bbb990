//! Lines that are stored with more than the service wrote: a time in front, or one JSON object each.
//!
//! A line is begun when its first byte comes and ended when its line end does, whatever lies between: nothing has to be
//! held back to know how long it is. So what is stored depends on the bytes, the time, and whether the file ends within a
//! line, and on nothing that a kill could lose. Only in `json` a character of which the first bytes came alone waits for
//! the rest, since half of one cannot be said in JSON.

use jiff::Timestamp;

use super::Format;

/// Whose bytes they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Generation of the run.
    pub(crate) run: u32,
    /// Standard error on its own.
    pub(crate) is_error: bool,
}

impl Origin {
    /// Output of this generation.
    pub(crate) fn of(generation: u64, is_error: bool) -> Self {
        // Four thousand million lives: one each second for a century.
        Self { run: u32::try_from(generation).unwrap_or(u32::MAX), is_error }
    }
}

/// What decides about the form, beside the bytes and the time.
pub(super) struct How {
    pub(super) format: Format,
    pub(super) origin: Origin,
    pub(super) within_line: bool,
    /// Nothing follows that could complete a character.
    pub(super) last: bool,
}

/// What one call has done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) taken: usize,
    pub(super) made: usize,
}

/// The longest that one byte of the service can become: `\u00ff`.
const LONGEST_ESCAPE: usize = 6;

/// Length of `2023-11-14T22:13:20.123Z `.
const STAMP: usize = 25;

/// Room for the beginning of an object: `{"at":"…","run":4294967295,"stream":"stderr","line":"`.
const HEAD: usize = 96;

/// The end of an object.
const OBJECT_END: &[u8; 3] = b"\"}\n";

/// What stands for bytes that are no UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Puts as much of `raw` as fits into its final form.
pub(super) fn stage(how: &How, now_ns: i64, raw: &[u8], out: &mut [u8]) -> Staged {
    let head = head(how, now_ns);
    let mut page = Page { out, made: 0 };
    let (mut taken, mut within) = (0, how.within_line);
    while taken < raw.len() {
        if let (false, Format::Timestamp, Ok(head)) = (within, how.format, head.as_slice().try_into()) {
            taken += page.stamped(head, &raw[taken..]);
            if taken == raw.len() {
                break;
            }
        }
        if !within && how.format == Format::Json {
            taken += page.objects(&head, &raw[taken..]);
            if taken == raw.len() {
                break;
            }
        }
        let rest = &raw[taken..];
        // Room for the head, one byte of the line at its longest, and the line's end.
        if page.room() < head.len() + LONGEST_ESCAPE + 3 {
            break;
        }
        let end = memchr::memchr(b'\n', rest);
        let text = &rest[..end.unwrap_or(rest.len())];
        if !within {
            page.put(&head);
        }
        let used = match how.format {
            Format::Raw | Format::Timestamp => page.plain(text),
            Format::Json => page.escaped(text, end.is_some() || how.last),
        };
        taken += used;
        if used < text.len() {
            // A line that was begun with nothing in it would be begun again.
            if used == 0 && !within {
                page.made -= head.len();
            }
            break;
        }
        within = end.is_none();
        if end.is_some() {
            page.put(if how.format == Format::Json { OBJECT_END } else { b"\n" });
            taken += 1;
        }
    }
    Staged { taken, made: page.made }
}

fn head(how: &How, now_ns: i64) -> Vec<u8> {
    let at = Timestamp::from_nanosecond(i128::from(now_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    match how.format {
        Format::Raw => Vec::new(),
        Format::Timestamp => format!("{at:.3} ").into_bytes(),
        Format::Json => {
            let stream = if how.origin.is_error { "stderr" } else { "stdout" };
            let run = how.origin.run;
            format!("{{\"at\":\"{at:.3}\",\"run\":{run},\"stream\":\"{stream}\",\"line\":\"").into_bytes()
        }
    }
}

/// The buffer that is being filled.
struct Page<'a> {
    out: &'a mut [u8],
    made: usize,
}

impl Page<'_> {
    fn room(&self) -> usize {
        self.out.len() - self.made
    }

    /// There must be room.
    fn put(&mut self, bytes: &[u8]) {
        self.out[self.made..][..bytes.len()].copy_from_slice(bytes);
        self.made += bytes.len();
    }

    /// Whole lines, as many as fit; how many bytes of them that were. The copy of a head of known length is two
    /// instructions, which a flood notices.
    fn stamped(&mut self, head: &[u8; STAMP], lines: &[u8]) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', lines) {
            let line = &lines[start..=end];
            let Some(room) = self.out.get_mut(self.made..self.made + STAMP + line.len()) else { break };
            let (stamp, rest) = room.split_at_mut(STAMP);
            stamp.copy_from_slice(head);
            rest.copy_from_slice(line);
            self.made += STAMP + line.len();
            start = end + 1;
        }
        start
    }

    /// Whole lines as objects, as many as fit, up to the first in which a byte needs an escape; how many bytes of them that
    /// were. Copied is a known length, of which the line overwrites what is too much.
    fn objects(&mut self, head: &[u8], lines: &[u8]) -> usize {
        let mut padded = [0; HEAD];
        let Some(place) = padded.get_mut(..head.len()) else { return 0 };
        place.copy_from_slice(head);
        let mut start = 0;
        while let Some(rest) = lines.get(start..).filter(|rest| !rest.is_empty()) {
            let plain = plain_length(rest);
            if rest.get(plain) != Some(&b'\n') {
                break;
            }
            let most = self.made + HEAD + plain + OBJECT_END.len();
            let Some(room) = self.out.get_mut(self.made..most) else { break };
            room[..HEAD].copy_from_slice(&padded);
            let (text, end) = room[head.len()..].split_at_mut(plain);
            text.copy_from_slice(&rest[..plain]);
            end[..OBJECT_END.len()].copy_from_slice(OBJECT_END);
            self.made += head.len() + plain + OBJECT_END.len();
            start += plain + 1;
        }
        start
    }

    /// As much as fits beside a line end; how much that was.
    fn plain(&mut self, text: &[u8]) -> usize {
        let fits = text.len().min(self.room() - 3);
        self.put(&text[..fits]);
        fits
    }

    /// The same as a part of a JSON string. Of a character that is not complete nothing is taken, unless nothing follows.
    fn escaped(&mut self, text: &[u8], last: bool) -> usize {
        let mut taken = 0;
        while taken < text.len() {
            let rest = &text[taken..];
            let plain = plain_length(rest);
            let fits = self.plain(&rest[..plain]);
            taken += fits;
            let (true, Some(&byte)) = (fits == plain, rest.get(plain)) else { break };
            if !byte.is_ascii() {
                let wide = rest[plain..].iter().position(u8::is_ascii).unwrap_or(rest.len() - plain);
                let used = self.wide(&rest[plain..][..wide], last || plain + wide < rest.len());
                taken += used;
                if used < wide {
                    break;
                }
            } else if self.room() < LONGEST_ESCAPE + 3 {
                break;
            } else {
                self.escape(byte);
                taken += 1;
            }
        }
        taken
    }

    /// The same of bytes of which none is ASCII.
    fn wide(&mut self, text: &[u8], last: bool) -> usize {
        let mut taken = 0;
        for chunk in text.utf8_chunks() {
            let valid = chunk.valid();
            let fits = floor_char(valid, self.room().saturating_sub(3));
            self.put(&valid.as_bytes()[..fits]);
            taken += fits;
            if fits < valid.len() {
                return taken;
            }
            let invalid = chunk.invalid();
            let cut = !last && taken + invalid.len() == text.len() && is_cut_character(invalid);
            if cut || (!invalid.is_empty() && self.room() < REPLACEMENT.len() + 3) {
                return taken;
            }
            if !invalid.is_empty() {
                self.put(REPLACEMENT);
                taken += invalid.len();
            }
        }
        taken
    }

    fn escape(&mut self, byte: u8) {
        match byte {
            b'"' => self.put(b"\\\""),
            b'\\' => self.put(b"\\\\"),
            b'\t' => self.put(b"\\t"),
            b'\r' => self.put(b"\\r"),
            _ => self.put(format!("\\u{byte:04x}").as_bytes()),
        }
    }
}

/// How many of the first bytes are said in JSON as they are: ASCII, and neither a control character, a quote nor a backslash.
/// A block at a time without a branch in it, which the compiler makes a few wide instructions; then a word at a time, which
/// says where.
fn plain_length(text: &[u8]) -> usize {
    let is_special = |byte: u8| !(b' '..0x80).contains(&byte) || byte == b'"' || byte == b'\\';
    let (blocks, _) = text.as_chunks::<16>();
    let plain = |block: &&[u8; 16]| !block.iter().fold(false, |found, &byte| found | is_special(byte));
    let mut done = blocks.iter().take_while(plain).count() * 16;
    let (words, rest) = text[done..].as_chunks::<8>();
    for word in words {
        let found = special_in(u64::from_le_bytes(*word));
        if found != 0 {
            return done + found.trailing_zeros() as usize / 8;
        }
        done += 8;
    }
    done + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

/// The highest bit of each byte that needs an escape or is no ASCII; the lowest such bit is right, those above it may not be.
fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let each = |byte: u8| ONES * u64::from(byte);
    // A subtraction that has to borrow sets the highest bit; what it borrows from are the bytes above.
    let is_below = |word: u64, least: u8| word.wrapping_sub(each(least)) & !word;
    let equals = |byte: u8| is_below(word ^ each(byte), 1);
    (is_below(word, b' ') | equals(b'"') | equals(b'\\') | word) & each(0x80)
}

/// The longest beginning of `text` that has at most `most` bytes and ends between two characters.
fn floor_char(text: &str, most: usize) -> usize {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Whether bytes that are no UTF-8 are the beginning of a character.
fn is_cut_character(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_700_000_000_123_456_789;

    /// The whole of `raw` in pieces, as it comes from a pipe and goes through a buffer of `room` bytes.
    fn through(format: Format, pieces: &[&[u8]], room: usize) -> String {
        let (mut all, mut lead) = (Vec::new(), Vec::new());
        for (n, piece) in pieces.iter().enumerate() {
            lead.extend_from_slice(piece);
            loop {
                let within_line = all.last().is_some_and(|byte| *byte != b'\n');
                let origin = Origin { run: 7, is_error: false };
                let how = How { format, origin, within_line, last: n + 1 == pieces.len() };
                let mut out = vec![0; room];
                let Staged { taken, made } = stage(&how, AT, &lead, &mut out);
                all.extend_from_slice(&out[..made]);
                lead.drain(..taken);
                if taken == 0 {
                    assert_eq!(made, 0, "made of nothing");
                    break;
                }
            }
        }
        assert!(lead.is_empty(), "left over: {lead:?}");
        String::from_utf8(all).unwrap()
    }

    /// Each line has its time once, however its bytes come.
    #[test]
    fn each_line_gets_the_time_of_its_first_byte() {
        let wanted = "2023-11-14T22:13:20.123Z one\n2023-11-14T22:13:20.123Z \n2023-11-14T22:13:20.123Z t";
        assert_eq!(through(Format::Timestamp, &[b"one\n\nt"], 1000), wanted);
        assert_eq!(through(Format::Timestamp, &[b"o", b"ne", b"\n", b"\nt"], 50), wanted);
    }

    /// The quick ways find what the slow one does: every byte at every place, beside every other.
    #[test]
    fn every_byte_that_needs_an_escape_is_found_where_it_is() {
        let is_special = |byte: u8| !(b' '..0x80).contains(&byte) || byte == b'"' || byte == b'\\';
        for (place, length) in (0..40).flat_map(|place| (place + 1..42).map(move |length| (place, length))) {
            for byte in 0..=255 {
                let mut text = vec![b'x'; length];
                text[place] = byte;
                // One that a borrow could be mistaken for.
                if let Some(next) = text.get_mut(place + 1) {
                    *next = b'!';
                }
                let wanted = if is_special(byte) { place } else { length };
                assert_eq!(plain_length(&text), wanted, "{byte:#x} at {place} of {length}");
            }
        }
    }

    /// Each line of a JSON log is an object that says what the service wrote, however its bytes come and whatever
    /// they are. Seen to fail without the wait for the rest of a character.
    #[test]
    fn a_line_is_the_same_object_however_it_comes() {
        let raw = "plain\n\"quoted\\\" \ttab\r\n\u{1b}[31mäöü€🙂\0\n".as_bytes();
        let mut raw = raw.to_vec();
        raw.extend_from_slice(b"\xff\xfe bad \xe2\x82\n");
        let whole = through(Format::Json, &[&raw], 4000);
        let lines: Vec<serde_json::Value> =
            whole.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(lines[1]["line"], "\"quoted\\\" \ttab\r");
        assert_eq!(lines[2]["line"], "\u{1b}[31mäöü€🙂\0");
        assert_eq!(lines[3]["line"], "\u{fffd}\u{fffd} bad \u{fffd}");
        assert_eq!((&lines[0]["run"], &lines[0]["stream"]), (&7.into(), &"stdout".into()));
        for size in 1..9 {
            let pieces: Vec<&[u8]> = raw.chunks(size).collect();
            assert_eq!(through(Format::Json, &pieces, 100), whole, "in pieces of {size}");
        }
    }
}
