//! Whether the kernel can be told to keep the limits of the services here.

use std::collections::BTreeSet;

use relume_config::ServiceConfig;
use relume_os::cgroup::CgroupRoot;

use crate::cli::render::doctor::Check;

/// None when no service has limits.
pub(super) fn kept(services: &[ServiceConfig]) -> Option<Check> {
    let limited = services.iter().filter(|service| service.resources.limits.is_some());
    let names: Vec<&str> = limited.clone().map(|service| service.spec.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let wanted: BTreeSet<&str> = limited.flat_map(|service| service.resources.limits.controllers()).collect();
    // A name that no manager has, so that none is disturbed.
    let offered = CgroupRoot::discover(&format!("relume-doctor-{}", std::process::id())).map(|root| {
        let offered = (root.controllers(), root.path().parent().map(std::path::Path::to_path_buf));
        // A folder without processes that stays behind is litter and no more.
        let _litter = root.remove();
        offered
    });
    Some(match offered {
        Ok((offered, place)) => {
            let place = place.map(|place| place.display().to_string()).unwrap_or_default();
            judge(&names, &wanted, &offered, &place)
        }
        Err(error) => not_kept(&names, &format!("no writable cgroup v2: {error}")),
    })
}

fn judge(names: &[&str], wanted: &BTreeSet<&str>, offered: &[String], place: &str) -> Check {
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|name| !offered.iter().any(|offer| offer == name)).collect();
    if missing.is_empty() {
        return Check::ok("limits", format!("the controllers are there for {}", names.join(", ")));
    }
    not_kept(names, &format!("controllers that do not reach {place}: {}", missing.join(", ")))
}

fn not_kept(names: &[&str], why: &str) -> Check {
    Check::warn("limits", format!("of {} are not kept here: {why}", names.join(", "))).advice(
        "systemd: Delegate=yes, as relume install writes it; a machine that still binds controllers to cgroup v1 cannot",
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
        let judged = judge(&["web"], &wanted, &["cpu".into(), "pids".into()], "/x");
        assert_eq!(judged.verdict, Verdict::Warn);
        assert!(judged.detail.contains("web") && judged.detail.ends_with("/x: memory"), "{}", judged.detail);
        let all = ["cpu".to_owned(), "memory".to_owned()];
        assert_eq!(judge(&["web"], &wanted, &all, "/x").verdict, Verdict::Ok);
    }
}
