//! The query of `GET /v1/status`: names, comma separated and percent-encoded (RFC 3986 §2.1).

/// The query for these names (`names=web%3A1,db`); empty for none.
#[must_use]
pub fn names_to_query(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let encoded: Vec<String> = names.iter().map(|name| encode(name)).collect();
    format!("names={}", encoded.join(","))
}

/// The names in a query; `None` when it has no `names`, or an empty one, which means all. What is no valid encoding stays as
/// it stands and then matches no service.
#[must_use]
pub fn names_from_query(query: &str) -> Option<Vec<String>> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("names="))?;
    let names: Vec<String> = value.split(',').filter(|name| !name.is_empty()).map(decode).collect();
    (!names.is_empty()).then_some(names)
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(hex_digit(byte >> 4));
            out.push(hex_digit(byte & 15));
        }
    }
    out
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)])
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'%', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (char::from(*high).to_digit(16), char::from(*low).to_digit(16))
        {
            out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            rest = after;
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_sent() {
        let names: Vec<String> = ["web", "web:2", "group/back end", "a,b", "100%", "ü&=\u{1b}"]
            .iter()
            .map(ToString::to_string)
            .collect();
        let query = names_to_query(&names);
        assert!(query.is_ascii() && !query.contains(' '), "{query}");
        assert_eq!(names_from_query(&query), Some(names));
    }

    #[test]
    fn no_names_mean_all() {
        assert_eq!(names_to_query(&[]), "");
        assert_eq!(names_from_query(""), None);
        assert_eq!(names_from_query("after=3"), None);
        assert_eq!(names_from_query("names="), None);
        assert_eq!(names_from_query("names=,&after=3"), None);
    }

    #[test]
    fn broken_encodings_stay_as_they_stand() {
        assert_eq!(
            names_from_query("names=%,%4,%zz,a%2"),
            Some(vec!["%".into(), "%4".into(), "%zz".into(), "a%2".into()])
        );
    }
}
