//! A service's name as one path component, and back.
//!
//! Letters, digits, `_`, `-` and `@` stand for themselves, every other byte is `%XX`. A dot too: all files of the kernel in a cgroup
//! directory have one (`cgroup.procs`), so no service can be named like them; and our own directories begin with `+`, which no escaped name contains.

pub(super) fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `None` if this is not what [`escape`] makes.
pub(super) fn unescape(component: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok().filter(|name| escape(name) == component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_becomes_one_safe_component_and_comes_back() {
        for name in [
            "web",
            "web:2",
            "..",
            ".",
            "a/b",
            "cgroup.procs",
            "+supervisor",
            "%41",
            "ö",
            "a b\n",
            "",
            "x@y-z_9",
        ] {
            let escaped = escape(name);
            assert!(!escaped.contains(['/', '.', '+', '\n']), "{escaped}");
            assert_eq!(unescape(&escaped).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_we_did_not_write_is_no_name() {
        for component in ["a.b", "%", "%4", "%zz", "+supervisor", "%41", "%ff", "%C3"] {
            assert_eq!(unescape(component), None, "{component}");
        }
    }
}
