//! Users and groups by name or id, with everything odd refused.
//!
//! A service that was to run as somebody and runs as root instead is the worst outcome there is, and it has
//! happened to others over `0day`, `0x0` and an empty string. So a text is an id only if it is all digits, a name only if it has the
//! form of a name *and* the system knows it, and anything else is an error.
//!
//! Look-ups may go over the network (NSS): never call them from a thread that supervises.

use std::fmt;

use nix::unistd::{Group, User};

/// What a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The user's name, where there is one (`USER`, `LOGNAME`).
    pub user: Option<String>,
    /// The user's home directory, where there is one (`HOME`).
    pub home: Option<std::path::PathBuf>,
    /// The user's shell, where there is one (`SHELL`).
    pub shell: Option<std::path::PathBuf>,
}

/// Why a user or group is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// `user` or `group`.
    pub kind: &'static str,
    /// The text as given.
    pub text: String,
    /// Why not.
    pub reason: String,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} is refused: {}", self.kind, self.text, self.reason)
    }
}

impl std::error::Error for UserError {}

enum Form<'a> {
    Id(u32),
    Name(&'a str),
}

/// Ids end one below the number that means "leave it as it is" to setuid(2) and its kin.
const NO_ID: u32 = u32::MAX;

fn form<'a>(kind: &'static str, text: &'a str) -> Result<Form<'a>, UserError> {
    let refuse = |reason: &str| Err(UserError { kind, text: text.to_owned(), reason: reason.to_owned() });
    if text.is_empty() {
        return refuse("it is empty");
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(NO_ID) => refuse("this number means \"unchanged\" to the kernel"),
            Ok(id) => Ok(Form::Id(id)),
            Err(_) => refuse("ids end at 4294967294"),
        };
    }
    if !text.is_ascii() {
        return refuse("names consist of ASCII characters");
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_alphabetic() || first == b'_') {
        return refuse("a name begins with a letter or `_`, an id is all digits");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@\\+$".contains(&b)) {
        return refuse("a name consists of letters, digits, `_`, `-` and `.`");
    }
    Ok(Form::Name(text))
}

/// What a service runs as, from the texts of its configuration. Without a user only the group changes; without a
/// group it is the user's primary one. A numeric user unknown to the system runs with the group given, else with the group
/// of the same number, and no others.
pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Credentials, UserError> {
    let gid = group.map(resolve_group).transpose()?;
    let Some(text) = user else {
        return Ok(own(gid));
    };
    let refuse = |reason: String| UserError { kind: "user", text: text.to_owned(), reason };
    let found = match form("user", text)? {
        Form::Name(name) => {
            let entry =
                User::from_name(name).map_err(|e| refuse(format!("looking it up failed: {}", e.desc())))?;
            Some(entry.ok_or_else(|| refuse("there is no such user".to_owned()))?)
        }
        Form::Id(id) => {
            User::from_uid(id.into()).map_err(|e| refuse(format!("looking it up failed: {}", e.desc())))?
        }
    };
    let Some(entry) = found else {
        let Form::Id(uid) = form("user", text)? else {
            return Err(refuse("there is no such user".to_owned()));
        };
        let gid = gid.unwrap_or(uid);
        return Ok(Credentials { uid, gid, groups: vec![gid], user: None, home: None, shell: None });
    };
    from_entry(entry, gid).map_err(|e| refuse(format!("looking up its groups failed: {}", e.desc())))
}

fn from_entry(entry: User, gid: Option<u32>) -> nix::Result<Credentials> {
    let gid = gid.unwrap_or(entry.gid.as_raw());
    let name = std::ffi::CString::new(entry.name.as_str()).map_err(|_| nix::errno::Errno::EINVAL)?;
    let groups = nix::unistd::getgrouplist(&name, gid.into())?;
    Ok(Credentials {
        uid: entry.uid.as_raw(),
        gid,
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
        user: Some(entry.name),
        home: Some(entry.dir),
        shell: Some(entry.shell),
    })
}

/// The id of a group given as name or number.
pub fn resolve_group(text: &str) -> Result<u32, UserError> {
    let refuse = |reason: String| UserError { kind: "group", text: text.to_owned(), reason };
    match form("group", text)? {
        Form::Id(gid) => Ok(gid),
        Form::Name(name) => match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(refuse("there is no such group".to_owned())),
            Err(e) => Err(refuse(format!("looking it up failed: {}", e.desc()))),
        },
    }
}

/// Our own user, in another group if one is given.
fn own(gid: Option<u32>) -> Credentials {
    let (uid, own_gid) = (effective_uid(), rustix::process::getegid().as_raw());
    let gid = gid.unwrap_or(own_gid);
    let groups = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect();
    Credentials { uid, gid, groups, user: None, home: None, shell: None }
}

/// The effective uid of this process.
#[must_use]
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    effective_uid() == 0
}

/// Name of a user id, for people; `None` if it has none or the look-up fails.
#[must_use]
pub fn name_of(uid: u32) -> Option<String> {
    User::from_uid(uid.into()).ok().flatten().map(|u| u.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R29: each of these has run services as root, or as nobody wanted, in some supervisor.
    #[test]
    fn strange_users_and_groups_are_refused() {
        let strange = [
            "",
            " ",
            "0day",
            "0x0",
            "-1",
            "+0",
            "4294967295",
            "4294967296",
            "99999999999999999999",
            "no-such-user-here",
            "rööt",
            "ro ot",
            "root\n",
            "root:root",
            "\u{ff10}",
            "1e3",
            "0.0",
            "root\0",
            "-",
            "..",
            "/root",
        ];
        for text in strange {
            assert!(resolve(Some(text), None).is_err(), "user {text:?} was accepted");
            assert!(resolve(None, Some(text)).is_err(), "group {text:?} was accepted");
        }
    }

    #[test]
    fn a_refusal_names_the_text_and_the_reason() {
        let error = resolve(Some("0day"), None).unwrap_err().to_string();
        assert!(error.contains("\"0day\"") && error.contains("begins with a letter"), "{error}");
        let error = resolve(Some("no-such-user-here"), None).unwrap_err().to_string();
        assert!(error.contains("no such user"), "{error}");
    }

    #[test]
    fn root_by_name_and_by_number_is_the_same() {
        let by_name = resolve(Some("root"), None).unwrap();
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert_eq!(by_name, resolve(Some("0"), None).unwrap());
    }

    #[test]
    fn a_number_unknown_to_the_system_is_an_id_with_its_own_group_only() {
        let c = resolve(Some("4294967294"), None).unwrap();
        assert_eq!((c.uid, c.gid, c.groups), (4_294_967_294, 4_294_967_294, vec![4_294_967_294]));
    }

    #[test]
    fn a_group_alone_leaves_the_user() {
        let c = resolve(None, Some("0")).unwrap();
        assert_eq!((c.uid, c.gid), (effective_uid(), 0));
    }
}
