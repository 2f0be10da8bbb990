//! R42: what somebody planted in a path is refused with a reason and stays as it was.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::skip;
use relume_os::files::{self, Durability, LockError};
use relume_os::{Errno, sockets, users};

fn refused(path: &Path, words: &str) {
    let error = files::open_append_safe(path, 0o640).unwrap_err();
    assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
}

#[test]
fn links_hard_links_fifos_directories_and_devices_are_never_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("victim"), "precious").unwrap();
    symlink(at("victim"), at("link")).unwrap();
    symlink(at("not-there"), at("dangling")).unwrap();
    fs::hard_link(at("victim"), at("hard")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&at("link"), "symbolic link");
    refused(&at("dangling"), "symbolic link");
    refused(&at("hard"), "2 names");
    refused(&at("dir"), "directory");
    // Returns at all: an open of a FIFO without a reader would wait for ever.
    refused(&at("fifo"), "not a regular file");
    refused(Path::new("/dev/null"), "not a regular file");
    refused(&at("victim/below"), "Not a directory");
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
    assert!(!at("not-there").exists());
}

#[test]
fn a_new_file_gets_its_exact_mode_and_an_old_one_keeps_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let file = files::open_append_safe(&path, 0o666).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o666, "whatever the umask");
    files::pwrite_all(&file, b"hello", 0).unwrap();
    let again = files::open_append_safe(&path, 0o600).unwrap();
    let id = files::identify(&again).unwrap();
    assert!(id.size == 5 && id.same_file(&files::identify(&file).unwrap()));
    files::pwrite_all(&again, b", you", id.size).unwrap();
    let mut text = String::new();
    fs::File::from(files::open_read(&path).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello, you");
    assert!(files::remove(&path).unwrap() && !files::remove(&path).unwrap());
    assert_eq!(files::identify(&file).unwrap().links, 0, "a removed file is known by its links");
}

#[test]
fn a_write_into_a_full_device_says_how_far_it_came() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(files::pwrite_all(&full, b"x", 0), Err((0, Errno::NOSPC)));
}

#[test]
fn links_on_the_way_are_followed_only_if_they_are_roots_or_ours() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink("real", dir.path().join("ours")).unwrap();
    files::open_append_safe(&dir.path().join("ours/log"), 0o600).unwrap();
    assert!(real.join("log").exists());
    symlink("loop", dir.path().join("loop")).unwrap();
    assert_eq!(files::open_dir(&dir.path().join("loop")).unwrap_err().errno, Errno::LOOP);
    if !users::is_root() {
        return skip("a stranger's link needs root to make");
    }
    let link = dir.path().join("theirs");
    symlink("real", &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
    refused(&link.join("log2"), "belongs to uid 65534");
    assert!(!real.join("log2").exists());
}

#[test]
fn a_strangers_file_in_our_directory_is_refused() {
    if !users::is_root() {
        return skip("a stranger's file needs root to make");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "theirs").unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    refused(&path, "belongs to uid 65534");
    // In a stranger's own directory it is where it belongs, and changing it harms nobody else.
    std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
    files::open_append_safe(&path, 0o600).unwrap();
}

#[test]
fn directories_are_made_with_their_exact_mode_and_a_file_in_their_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c");
    files::create_dir(&path, 0o711).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o711);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    files::create_dir(&path, 0o711).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o700,
        "what was there keeps its mode"
    );
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(files::create_dir(&dir.path().join("file"), 0o700).unwrap_err().errno, Errno::NOTDIR);
    assert_eq!(files::create_dir(&dir.path().join("file/x"), 0o700).unwrap_err().errno, Errno::NOTDIR);
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    files::create_dir(&dir.path().join("dangling"), 0o700).unwrap();
    assert!(dir.path().join("nowhere").is_dir(), "our own link is followed, also where nothing is yet");
}

#[test]
fn an_atomic_write_replaces_a_link_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let (victim, path) = (dir.path().join("victim"), dir.path().join("status.json"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, &path).unwrap();
    files::write_atomic(&path, b"{}", 0o644, Durability::Process).unwrap();
    files::write_atomic(&path, b"{\"a\":1}", 0o640, Durability::Disk).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\":1}");
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode(), 0o100_640);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::create_dir(dir.path().join("d")).unwrap();
    assert!(files::write_atomic(&dir.path().join("d"), b"x", 0o600, Durability::Process).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "a failed write leaves nothing");
}

#[test]
fn a_lock_is_held_once_tells_who_and_ends_with_its_last_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let first = files::lock(&path, "pid 1 since noon").unwrap();
    assert_eq!(files::lock(&path, "pid 2").unwrap_err(), LockError::Held { by: "pid 1 since noon".into() });
    first.describe("pid 9").unwrap();
    let copy = files::Lock::from_owned(first.as_fd().try_clone_to_owned().unwrap());
    drop(first);
    assert_eq!(files::lock(&path, "pid 2").unwrap_err(), LockError::Held { by: "pid 9".into() });
    drop(copy);
    let second = files::lock(&path, "pid 2").unwrap();
    fs::remove_file(&path).unwrap();
    files::lock(&path, "pid 3").expect("a removed lock file is a new place");
    drop(second);
}

#[test]
fn what_others_can_write_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(files::check_trusted(&path).unwrap(), None);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
    let found = files::check_trusted(&path).unwrap().unwrap();
    assert!(found.path == path && found.reason.contains("0646"), "{found}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(files::check_trusted(&path).unwrap().unwrap().path, dir.path());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(files::check_trusted(&dir.path().join("none")).unwrap_err().errno, Errno::NOENT);
}

#[test]
fn renaming_stays_in_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a"), "1").unwrap();
    assert!(files::rename(&at("a"), &at("a.1")).unwrap());
    assert!(!files::rename(&at("a"), &at("a.1")).unwrap(), "nothing there is no error");
    assert!(files::rename(&at("a.1"), Path::new("/a")).is_err());
    assert_eq!(fs::read_to_string(at("a.1")).unwrap(), "1");
}

#[test]
fn a_control_socket_is_private_replaces_only_a_dead_one_and_knows_its_peer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = sockets::listen_private(&path).unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the private directory is gone");
    let _client = sockets::connect(&path).unwrap();
    let accepted = rustix::net::accept(&listener).unwrap();
    let peer = sockets::peer(&accepted).unwrap();
    assert_eq!((peer.pid, peer.uid), (std::process::id(), users::effective_uid()));
    let error = sockets::listen_private(&path).unwrap_err();
    assert!(error.errno == Errno::ADDRINUSE && error.to_string().contains("another process"), "{error}");
    drop((listener, accepted));
    drop(sockets::listen_private(&path).expect("a stale socket is replaced"));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert_eq!(sockets::listen_private(&path).unwrap_err().errno, Errno::ADDRINUSE);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
