//! epoll and the descriptors that exist to be waited for.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use common::LONG;
use relume_os::clock::monotonic_ns;
use relume_os::epoll::{Epoll, EventFd, Inotify, Interest, Timer, Watch};
use relume_os::pipes::Pipe;
use relume_os::signals::{self, SignalFd};

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

#[test]
fn a_oneshot_is_silent_until_it_is_armed_again() {
    let (epoll, pipe) = (Epoll::new().unwrap(), Pipe::new().unwrap());
    let mut ready = Vec::new();
    epoll.add(&pipe.read, 42, Interest::READ_ONCE).unwrap();
    epoll.wait(&mut ready, AT_ONCE).unwrap();
    assert!(ready.is_empty());
    rustix::io::write(&pipe.write, b"x").unwrap();
    epoll.wait(&mut ready, Some(LONG)).unwrap();
    assert!(ready.len() == 1 && ready[0].token == 42 && ready[0].readable && !ready[0].hangup);
    epoll.wait(&mut ready, AT_ONCE).unwrap();
    assert!(ready.is_empty());
    epoll.modify(&pipe.read, 43, Interest::READ_ONCE).unwrap();
    drop(pipe.write);
    epoll.wait(&mut ready, Some(LONG)).unwrap();
    assert!(ready[0].token == 43 && ready[0].readable && ready[0].hangup);
    epoll.delete(&pipe.read).unwrap();
    assert!(epoll.delete(&pipe.read).is_err());
}

#[test]
fn an_eventfd_carries_signals_of_other_threads() {
    let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
    epoll.add(&event, 1, Interest::READ).unwrap();
    let mut ready = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| event.signal().unwrap());
        epoll.wait(&mut ready, Some(LONG)).unwrap();
    });
    assert_eq!(ready.len(), 1);
    event.signal().unwrap();
    assert_eq!(event.drain().unwrap(), 2);
    assert_eq!(event.drain().unwrap(), 0);
}

#[test]
fn a_timer_fires_at_its_time_once_and_not_when_disarmed() {
    let (epoll, timer) = (Epoll::new().unwrap(), Timer::new().unwrap());
    epoll.add(&timer, 1, Interest::READ).unwrap();
    let mut ready = Vec::new();
    let at = monotonic_ns() + 2_000_000;
    timer.set(at).unwrap();
    epoll.wait(&mut ready, Some(LONG)).unwrap();
    assert!(monotonic_ns() >= at && ready.len() == 1 && timer.drain().unwrap() && !timer.drain().unwrap());
    timer.set(0).unwrap();
    epoll.wait(&mut ready, Some(LONG)).unwrap();
    assert_eq!(ready.len(), 1, "a time that is past fires at once");
    timer.set(monotonic_ns() + 1_000_000).unwrap();
    timer.disarm().unwrap();
    epoll.wait(&mut ready, Some(Duration::from_millis(5))).unwrap();
    assert!(ready.is_empty());
}

#[test]
fn changes_of_watched_paths_are_told_with_their_names() {
    let (dir, inotify) = (tempfile::tempdir().unwrap(), Inotify::new().unwrap());
    let watch = inotify.add_watch(dir.path(), Watch::CREATED | Watch::MOVED | Watch::REMOVED).unwrap();
    std::fs::write(dir.path().join("a"), "").unwrap();
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    std::fs::remove_file(dir.path().join("b")).unwrap();
    let mut names = Vec::new();
    inotify
        .drain(|change| {
            assert_eq!(change.watch, Some(watch));
            names.push(change.name.unwrap().to_str().unwrap().to_owned());
        })
        .unwrap();
    assert_eq!(names, ["a", "a", "b", "b"]);
    std::fs::remove_dir(dir.path()).unwrap();
    let mut ended = false;
    inotify.drain(|change| ended |= change.ended).unwrap();
    assert!(ended);
    inotify.remove_watch(watch).unwrap();
    assert!(inotify.add_watch(dir.path(), Watch::MODIFIED).unwrap_err().to_string().contains("No such file"));
}

#[test]
fn a_blocked_signal_arrives_as_data_with_its_sender() {
    std::thread::spawn(|| {
        signals::block(&[libc::SIGUSR1]).unwrap();
        let (fd, epoll) = (SignalFd::new(&[libc::SIGUSR1]).unwrap(), Epoll::new().unwrap());
        epoll.add(fd.as_fd(), 1, Interest::READ).unwrap();
        assert_eq!(fd.read().unwrap(), None);
        // SAFETY: sends a signal that is blocked here to this very thread.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        let mut ready = Vec::new();
        epoll.wait(&mut ready, Some(LONG)).unwrap();
        let arrived = fd.read().unwrap().unwrap();
        assert_eq!((arrived.signal, arrived.pid), (libc::SIGUSR1, std::process::id()));
        assert_eq!(fd.read().unwrap(), None);
    })
    .join()
    .unwrap();
    assert!(SignalFd::new(&[0]).is_err() && signals::block(&[65]).is_err());
}

/// The parent of vfork(2) waits in the state in which one waits for a disk.
#[test]
fn a_thread_that_waits_in_the_kernel_is_named() {
    let pipe = Pipe::new().unwrap();
    let read = pipe.read.as_raw_fd();
    let hung = std::thread::Builder::new().name("hangs".into()).spawn(move || {
        // SAFETY: without CLONE_VM the child has a copy of all memory; it makes two system calls and nothing else.
        unsafe {
            let child = libc::syscall(libc::SYS_clone, libc::CLONE_VFORK | libc::SIGCHLD, 0, 0, 0, 0);
            if child == 0 {
                libc::read(read, [0u8; 1].as_mut_ptr().cast(), 1);
                libc::_exit(0);
            }
            let mut status = 0;
            libc::waitpid(libc::pid_t::try_from(child).unwrap(), &raw mut status, 0)
        }
    });
    let until = |wanted: bool| {
        let end = std::time::Instant::now() + LONG;
        while (relume_os::proc::waiting_thread().as_deref() == Some("hangs")) != wanted {
            assert!(std::time::Instant::now() < end, "{:?}", relume_os::proc::waiting_thread());
            std::thread::yield_now();
        }
    };
    until(true);
    rustix::io::write(&pipe.write, b"x").unwrap();
    assert!(hung.unwrap().join().unwrap() > 0);
    until(false);
}
