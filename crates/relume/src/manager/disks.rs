//! Watches the room on the file systems of logs and state: one look a minute, on a thread of its own, since a disk may hang.
//!
//! A look that does not come back costs nothing but later looks. Nobody waits for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::inbox::{Inbox, News};
use super::publish::Board;
use super::weigh::log_folders;
use crate::room::{self, Room, Shortage};
use crate::sizes;

/// From one look to the next. A disk that fills faster than in a minute announces itself by errors.
const INTERVAL: Duration = Duration::from_secs(60);

/// A disk that was short has room again when there is so much more than the bound, in eighths: one that
/// wavers is not news each minute.
const AGAIN_EIGHTHS: u64 = 10;

/// The latest look, for the board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rooms(Arc<Mutex<Vec<Room>>>);

impl Rooms {
    pub(crate) fn latest(&self) -> Vec<Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Starts the thread.
pub(crate) fn watch(board: Arc<Mutex<Board>>, inbox: Arc<Inbox>) -> std::io::Result<()> {
    let look = move || {
        let mut known = BTreeMap::new();
        loop {
            let (dirs, rooms) = {
                let board = board.lock().unwrap_or_else(PoisonError::into_inner);
                let mut dirs = vec![("logs", board.units.manager.log_dir.clone())];
                dirs.extend(log_folders(&board.units).into_iter().map(|dir| ("logs", dir)));
                dirs.push(("state", board.places.state_dir.clone()));
                (dirs, board.rooms.clone())
            };
            let found = room::look(dirs.iter().map(|(what, dir)| (*what, dir.as_path())));
            for text in found.iter().filter_map(|room| news(&mut known, room)) {
                inbox.send(News::Noticed { service: None, text });
            }
            *rooms.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
            std::thread::sleep(INTERVAL);
        }
    };
    std::thread::Builder::new().name("disks".into()).spawn(look).map(drop)
}

/// What people should know of this look, if it is other than what they know.
fn news(known: &mut BTreeMap<PathBuf, Shortage>, room: &Room) -> Option<String> {
    let before = known.get(&room.dir).copied().unwrap_or(Shortage::None);
    let mut now = room.shortage();
    let wavers = Room { free: room.free / AGAIN_EIGHTHS * 8, ..room.clone() };
    if now < before {
        now = wavers.shortage().min(before);
    }
    if now == before {
        return None;
    }
    known.insert(room.dir.clone(), now);
    let place = format!("{} ({})", room.dir.display(), room.what);
    let free = sizes::in_words(room.free);
    Some(match now {
        Shortage::None => format!("the disk of {place} has room again: {free} free"),
        Shortage::Little => format!(
            "the disk of {place} is nearly full: {free} free, less than {}",
            sizes::in_words(room::LITTLE)
        ),
        Shortage::Nothing => {
            format!("the disk of {place} is full: {free} free; logs and state cannot be written soon")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_told_once_and_a_disk_that_wavers_is_no_news() {
        let mut known = BTreeMap::new();
        let mut look = |free: u64| {
            let room = Room { what: "logs", dir: "/x".into(), free, total: 1 << 40, files: None };
            news(&mut known, &room)
        };
        assert_eq!(look(1 << 30), None);
        assert!(look(200 << 20).unwrap().contains("nearly full"));
        assert_eq!(look(199 << 20), None);
        assert_eq!(look(257 << 20), None, "just above the bound");
        assert_eq!(look(255 << 20), None);
        assert!(look(1 << 20).unwrap().contains("is full"));
        assert!(look(100 << 20).unwrap().contains("nearly full"));
        assert!(look(1 << 30).unwrap().contains("room again"));
        assert_eq!(look(1 << 30), None);
    }
}
