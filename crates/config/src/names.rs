//! Names people give: which are accepted, and how one becomes a file name that stays in its folder.

/// The longest name of a service.
pub(crate) const NAME: usize = 64;
/// The longest display name in characters, so that with every one escaped it still is a file name (255 bytes).
pub(crate) const DISPLAY_NAME: usize = 80;
/// The longest escaped display name: 255 bytes of a file name less `.err.log`, `:10000` and a rotation's number.
const FILE_STEM: usize = 220;

/// What is wrong with a name of a service or a group, if anything.
pub(crate) fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a name must not be empty".into());
    }
    if name.chars().count() > NAME {
        let length = name.chars().count();
        return Some(format!("a name has at most {NAME} characters, this one has {length}"));
    }
    if let Some((base, instance)) = name.split_once(':')
        && problem(base).is_none()
        && instance.bytes().all(|b| b.is_ascii_digit())
    {
        return Some(format!(
            "`{name}` is how instance {instance} of `{base}` is called\nhelp: a name has no colon; `instances: N` makes several"
        ));
    }
    let mut chars = name.chars();
    let first = chars.next().unwrap_or(' ');
    if !(first.is_ascii_alphanumeric() || first == '_') {
        return Some(format!("a name begins with a letter, a digit or `_`, not with {first:?}"));
    }
    let bad = chars.find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '@')));
    bad.map(|c| {
        format!("a name consists of letters, digits and `_ . - @`, not of {c:?}\nhelp: free text goes into `display_name`")
    })
}

/// What is wrong with a display name, if anything.
pub(crate) fn display_problem(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("a display name must not be empty".into());
    }
    if name.chars().count() > DISPLAY_NAME || file_stem(name).len() > FILE_STEM {
        return Some(format!("a display name has at most {DISPLAY_NAME} characters (it names the log file)"));
    }
    None
}

/// A display name as the name of a file: never a path, never hidden, never `.` or `..`, and two different names
/// never the same.
pub(crate) fn file_stem(display_name: &str) -> String {
    let mut out = String::with_capacity(display_name.len());
    for (at, c) in display_name.chars().enumerate() {
        let escape = c == '/' || c == '%' || c.is_control() || invisible(c) || (at == 0 && c == '.');
        if escape {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that turn or hide what stands beside them: a name with them looks like another one.
pub(crate) fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
