//! Never more automatic restarts over all services in any window than `respawn_rate` says.

use std::collections::VecDeque;

use relume_core::{Fact, Moment, What};

use super::View;

/// When automatic restarts began.
#[derive(Debug, Default)]
pub(super) struct RespawnRate {
    began: VecDeque<Moment>,
}

impl RespawnRate {
    pub(super) fn fact(&mut self, view: &View<'_>, fact: &Fact) -> Result<(), String> {
        let What::RunBegan { automatic: true, .. } = fact.what else { return Ok(()) };
        self.began.push_back(fact.at);
        let Some(rate) = view.config.manager.respawn_rate else { return Ok(()) };
        let most = rate.count.max(1) as usize;
        let within = self.began.iter().filter(|at| fact.at.since(**at) < rate.window).count();
        if within > most {
            return Err(format!("{within} automatic restarts within {:?}; {most} are allowed", rate.window));
        }
        Ok(())
    }
}
