//! Where everything is, and what is refused.

use std::os::unix::fs::PermissionsExt;

use super::*;

struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["app", "run", "shm", "home"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(name)
    }

    fn around(&self) -> Surroundings {
        Surroundings {
            uid: rustix::process::geteuid().as_raw(),
            xdg_runtime_dir: None,
            xdg_state_home: Some(self.path("home")),
            run: self.path("run"),
            shm: self.path("shm"),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted { base: self.path("app"), ..Wanted::default() }
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn defaults_lie_beside_the_config_with_the_right_modes() {
    let ground = Ground::new();
    let places = Places::settle(&ground.wanted(), &ground.around()).unwrap();
    assert_eq!(places.state_dir, ground.path("app/.relume"));
    assert_eq!(places.log_dir, ground.path("app/logs"));
    assert_eq!(places.pid_dir, ground.path("app/.relume/pids"));
    assert_eq!(places.status_file, ground.path("app/.relume/status.json"));
    assert_eq!(places.log_file, ground.path("app/.relume/relume.log"));
    assert_eq!(places.lock_file(), ground.path("app/.relume/lock"));
    assert_eq!(places.moved, None);
    assert_eq!((mode(&places.state_dir), mode(&places.runtime_dir)), (0o700, 0o711));
    assert_eq!(places, Places::settle(&ground.wanted(), &ground.around()).unwrap(), "settled twice");
}

#[test]
fn the_runtime_directory_follows_user_and_environment() {
    let ground = Ground::new();
    let mut around = ground.around();
    let xdg = ground.path("xdg");
    around.xdg_runtime_dir = Some(xdg.clone());
    around.uid = 0;
    assert_eq!(
        around.runtime_dirs("ID"),
        [ground.path("run/relume/ID"), xdg.join("relume/ID"), ground.path("shm/relume-0/ID")]
    );
    around.uid = 1000;
    assert_eq!(around.runtime_dirs("ID"), [xdg.join("relume/ID"), ground.path("shm/relume-1000/ID")]);
    around.xdg_runtime_dir = None;
    assert_eq!(around.runtime_dirs("ID"), [ground.path("shm/relume-1000/ID")]);
}

#[test]
fn the_id_is_fnv_1a_and_never_changes() {
    assert_eq!(id_of(Path::new("")), "cbf29ce484222325");
    assert_eq!(id_of(Path::new("foobar")), "85944171f73967e8");
    assert_ne!(id_of(Path::new("/a/.relume")), id_of(Path::new("/b/.relume")));
}

#[test]
fn a_client_finds_the_manager_through_the_link() {
    let ground = Ground::new();
    let before = find(&ground.wanted(), &ground.around()).unwrap();
    assert_eq!(before.state_dir, ground.path("app/.relume"));
    assert!(!before.socket.exists());
    let places = Places::settle(&ground.wanted(), &ground.around()).unwrap();
    places.link_runtime_dir().unwrap();
    places.link_runtime_dir().unwrap();
    let found = find(&ground.wanted(), &ground.around()).unwrap();
    assert_eq!(found, Found { state_dir: places.state_dir.clone(), socket: places.socket() });
    // From elsewhere, and by another name.
    symlink(ground.path("app"), ground.path("other")).unwrap();
    let wanted = Wanted {
        base: ground.path("home"),
        state_dir: Some(ground.path("other/.relume")),
        ..Wanted::default()
    };
    assert_eq!(find(&wanted, &ground.around()).unwrap(), found);
}

#[test]
fn a_client_finds_the_manager_without_the_link_where_it_must_be() {
    let ground = Ground::new();
    let places = Places::settle(&ground.wanted(), &ground.around()).unwrap();
    fs::write(places.socket(), "").unwrap();
    assert_eq!(find(&ground.wanted(), &ground.around()).unwrap().socket, places.socket());
}

/// Needs an ordinary user: root can write everywhere. A file in place of the folder stops root as well.
#[test]
fn a_default_state_directory_that_cannot_be_made_moves_home_and_says_so() {
    let ground = Ground::new();
    fs::write(ground.path("app/.relume"), "").unwrap();
    let wanted = Wanted { log_dir: Some(ground.path("logs")), ..ground.wanted() };
    let places = Places::settle(&wanted, &ground.around()).unwrap();
    let id = id_of(&ground.path("app/.relume"));
    assert_eq!(places.state_dir, ground.path("home/relume").join(id));
    assert!(places.moved.as_ref().unwrap().contains("home/relume"), "{:?}", places.moved);
    places.link_runtime_dir().unwrap();
    assert_eq!(find(&wanted, &ground.around()).unwrap().socket, places.socket());
}

#[test]
fn logs_move_with_the_state_where_neither_can_be_beside_the_config() {
    let ground = Ground::new();
    fs::write(ground.path("app/.relume"), "").unwrap();
    fs::write(ground.path("app/logs"), "").unwrap();
    let places = Places::settle(&ground.wanted(), &ground.around()).unwrap();
    assert_eq!(places.log_dir, places.state_dir.join("logs"));
    assert!(places.log_dir.is_dir());
    assert!(places.moved.as_ref().unwrap().contains("the logs of services in"), "{:?}", places.moved);
    // One that was asked for by name is meant.
    let wanted = Wanted { log_dir: Some("logs/mine".into()), ..ground.wanted() };
    assert!(Places::settle(&wanted, &ground.around()).is_err());
}

#[test]
fn a_runtime_directory_that_is_a_link_to_nowhere_is_refused_before_anything_is_made() {
    let ground = Ground::new();
    std::os::unix::fs::symlink(ground.path("nowhere/x"), ground.path("app/rt")).unwrap();
    let wanted = Wanted { runtime_dir: Some("rt".into()), ..ground.wanted() };
    let error = Places::settle(&wanted, &ground.around()).unwrap_err().to_string();
    assert!(error.contains("nowhere/x, which does not exist"), "{error}");
    assert!(!ground.path("nowhere").exists() && !ground.path("app/.relume").exists());
}

#[test]
fn a_state_directory_asked_for_by_name_is_never_moved() {
    let ground = Ground::new();
    fs::write(ground.path("app/mine"), "").unwrap();
    let wanted = Wanted { state_dir: Some("mine".into()), ..ground.wanted() };
    let error = Places::settle(&wanted, &ground.around()).unwrap_err().to_string();
    assert!(error.contains("app/mine"), "{error}");
}

#[test]
fn a_runtime_directory_others_can_write_is_refused() {
    let ground = Ground::new();
    let dir = ground.path("app/rt");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let wanted = Wanted { runtime_dir: Some(dir), ..ground.wanted() };
    let error = Places::settle(&wanted, &ground.around()).unwrap_err().to_string();
    assert!(error.contains("others can write it"), "{error}");
}

#[test]
fn a_planted_link_to_a_runtime_directory_of_a_stranger_is_not_followed() {
    if !is_root() {
        eprintln!("skipped: only root can make a file of somebody else");
        return;
    }
    let ground = Ground::new();
    let state = ground.path("app/.relume");
    fs::create_dir(&state).unwrap();
    fs::create_dir(ground.path("evil")).unwrap();
    symlink(ground.path("evil"), state.join("run")).unwrap();
    std::os::unix::fs::lchown(state.join("run"), Some(1234), None).unwrap();
    let error = find(&ground.wanted(), &ground.around()).unwrap_err().to_string();
    assert!(error.contains("belongs to user 1234"), "{error}");
    // The link is root's, but where it leads is not.
    std::os::unix::fs::lchown(state.join("run"), Some(0), None).unwrap();
    std::os::unix::fs::lchown(ground.path("evil"), Some(1234), None).unwrap();
    let error = find(&ground.wanted(), &ground.around()).unwrap_err().to_string();
    assert!(error.contains("evil") && error.contains("belongs to user 1234"), "{error}");
}

#[test]
fn a_stranger_who_was_faster_in_dev_shm_is_refused() {
    if !is_root() {
        eprintln!("skipped: only root can make a directory of somebody else");
        return;
    }
    let ground = Ground::new();
    let around = Surroundings { run: ground.path("none/\0"), ..ground.around() };
    let planted = ground.path("shm/relume-0");
    fs::create_dir(&planted).unwrap();
    std::os::unix::fs::lchown(&planted, Some(1234), None).unwrap();
    let error = Places::settle(&ground.wanted(), &around).unwrap_err().to_string();
    assert!(error.contains("shm/relume-0") && error.contains("1234"), "{error}");
}

#[test]
fn configs_are_looked_for_in_the_order_flag_variable_folder() {
    let ground = Ground::new();
    let app = ground.path("app");
    assert!(configs(&[], None, &app).is_empty());
    fs::write(app.join("services_config.json"), "[]").unwrap();
    assert_eq!(configs(&[], None, &app), [PathBuf::from("services_config.json")]);
    fs::write(app.join("relume.toml"), "").unwrap();
    assert_eq!(configs(&[], None, &app), [PathBuf::from("relume.toml")]);
    assert_eq!(configs(&[], Some("e.yaml".into()), &app), [PathBuf::from("e.yaml")]);
    assert_eq!(
        configs(&["/f".into(), "g".into()], Some("e".into()), &app),
        [PathBuf::from("/f"), PathBuf::from("g")]
    );
}

#[test]
fn the_first_config_says_where_defaults_lie() {
    let ground = Ground::new();
    let app = ground.path("app");
    assert_eq!(base_of(&[], &app), app);
    assert_eq!(base_of(&["/etc/x.yaml".into(), "/y/z.yaml".into()], &app), Path::new("/etc"));
    assert_eq!(
        base_of(std::slice::from_ref(&app), Path::new("/")),
        app,
        "a directory is a config of its own"
    );
}
