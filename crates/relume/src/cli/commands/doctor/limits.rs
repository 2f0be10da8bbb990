//! Whether the kernel can be told to keep the limits of the services here.

use std::collections::BTreeSet;

use relume_config::ServiceConfig;
use relume_os::cgroup::{self, CgroupRoot};

use crate::cli::render::doctor::Check;

/// None when no service has limits. `running`: the processes of the relume that runs here, whose cgroup it is then that counts;
/// else it is ours, as one that is started here would be in it.
pub(super) fn kept(services: &[ServiceConfig], running: &[u32]) -> Option<Check> {
    let limited = services.iter().filter(|service| service.resources.limits.is_some());
    let names: Vec<&str> = limited.clone().map(|service| service.spec.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let wanted: BTreeSet<&str> = limited.flat_map(|service| service.resources.limits.controllers()).collect();
    let myself = [std::process::id()];
    let (first, ours) = running.first().map_or((myself[0], &myself[..]), |first| (*first, running));
    let found = match running {
        [] => writable().and_then(|()| cgroup::handing_on(first)),
        [..] => cgroup::handing_on(first),
    };
    Some(match found {
        Ok(place) => {
            let offered = cgroup::controllers_in(&place);
            let free = || {
                let controllers: Vec<&str> = wanted.iter().copied().collect();
                cgroup::may_hand_on(&place, &controllers, ours).map_err(|error| error.to_string())
            };
            judge(&names, (&wanted, &offered), &place.display().to_string(), free)
        }
        Err(error) => not_kept(&names, &format!("no writable cgroup v2: {error}")),
    })
}

/// Whether a cgroup can be made below our own.
fn writable() -> relume_os::error::Result<()> {
    // A name that no manager has, so that none is disturbed.
    let root = CgroupRoot::discover(&format!("relume-doctor-{}", std::process::id()))?;
    // A folder without processes that stays behind is litter and no more.
    let _litter = root.remove();
    Ok(())
}

fn judge(
    names: &[&str],
    (wanted, offered): (&BTreeSet<&str>, &[String]),
    place: &str,
    free: impl FnOnce() -> Result<(), String>,
) -> Check {
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|name| !offered.iter().any(|offer| offer == name)).collect();
    if missing.is_empty() {
        return match free() {
            Ok(()) => Check::ok("limits", format!("the controllers are there for {}", names.join(", "))),
            Err(why) => not_kept(names, &why),
        };
    }
    not_kept(names, &format!("controllers that do not reach {place}: {}", missing.join(", ")))
}

fn not_kept(names: &[&str], why: &str) -> Check {
    Check::warn("limits", format!("of {} are not kept here: {why}", names.join(", "))).advice(
        "relume needs a cgroup of its own: relume install (systemd 254), or systemd-run --scope -p Delegate=yes relume up; a \
         machine that still binds controllers to cgroup v1 cannot",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::doctor::Verdict;

    /// Shown to fail: with any controllers taken for enough.
    #[test]
    fn a_controller_that_is_missing_is_named_with_the_services_that_want_it() {
        let wanted = BTreeSet::from(["cpu", "memory"]);
        let free = || Ok(());
        let judged = judge(&["web"], (&wanted, &["cpu".into(), "pids".into()]), "/x", free);
        assert_eq!(judged.verdict, Verdict::Warn);
        assert!(judged.detail.contains("web") && judged.detail.ends_with("/x: memory"), "{}", judged.detail);
        let all = ["cpu".to_owned(), "memory".to_owned()];
        assert_eq!(judge(&["web"], (&wanted, &all), "/x", free).verdict, Verdict::Ok);
        let shared = judge(&["web"], (&wanted, &all), "/x", || Err("a shell is in it".into()));
        assert!(
            shared.verdict == Verdict::Warn && shared.detail.ends_with("a shell is in it"),
            "{}",
            shared.detail
        );
    }
}
