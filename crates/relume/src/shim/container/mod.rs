//! One container: made or taken up, listened to, stopped.
//!
//! A container is known again by its labels: which relume, which service, which configuration. One that carries a name it
//! should have and labels of nobody or of another relume is not touched: that is an error for a person.

pub(super) mod engine;
mod output;

use std::time::Duration;

use bollard::models::HealthStatusEnum;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use relume_config::Container;

use super::signals::Signals;
use super::{Order, say, tell};
use engine::{Client, Found};
use output::Output;

/// Between two looks at a container's health, and two tries to reach an engine that is being restarted.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long the rest of the output of a container that has ended may take.
const LAST_OUTPUT: Duration = Duration::from_secs(5);

/// Between two looks at a container whose end the engine has told, and not yet noted.
const LOOK_SOON: Duration = Duration::from_millis(200);

/// The engine is to kill a container that does not stop before relume would kill its shim: what is left of `timeout_stop` for
/// the engine's answer, the last output and the removal. A share of it, at least some seconds, and never more than half.
const OUR_SHARE: f64 = 0.2;
const OUR_LEAST: f64 = 2.0;
const OUR_MOST_SHARE: f64 = 0.5;

pub(super) async fn stand_in(order: &Order, asked: &Container) -> Result<u8, String> {
    let mut signals = Signals::new()?;
    let client = engine::connect(asked.engine).await?;
    tell("STATUS=getting the container ready");
    let found = tokio::select! {
        found = client.obtain(order, asked) => found?,
        () = signals.end_asked() => return end_early(&client, order, asked).await,
    };
    let mut output = if found.adopted {
        say("the container is running already: taken up again");
        Output::again(&order.cursor)
    } else {
        Output::fresh(&order.cursor)
    };
    if !found.has_health {
        tell("READY=1\nSTATUS=");
    }
    let code = tokio::select! {
        code = ended(&client, &found.id) => code,
        () = follow(&client, &found.id, &mut output) => unreachable_code(),
        () = watch_health(&client, &found) => unreachable_code(),
        code = obey(&client, order, &found.id, &mut signals) => code,
    };
    // What was printed last, then the container is not needed any more.
    let rest = output.pass_on(&client.api, &found.id, false);
    let _late = tokio::time::timeout(LAST_OUTPUT, rest).await;
    let code = code?;
    if let Err(text) = client.remove(&found.id).await {
        say(&text);
    }
    let _none = std::fs::remove_file(&order.cursor);
    Ok(code)
}

/// Following and watching have no end of their own; their types have to have one.
fn unreachable_code() -> Result<u8, String> {
    Err("the engine stopped answering".into())
}

/// Asked to end before the container ran: what was made of it goes.
async fn end_early(client: &Client, order: &Order, asked: &Container) -> Result<u8, String> {
    let name = &asked.name;
    let found = client.api.inspect_container(name, None::<InspectContainerOptions>).await;
    let labels = found.ok().and_then(|found| found.config?.labels);
    if labels.is_some_and(|labels| labels.get("relume.owner") == Some(&order.owner)) {
        client.remove(name).await?;
    }
    Ok(0)
}

/// The container's exit code, when it has ended, over restarts of the engine too.
async fn ended(client: &Client, id: &str) -> Result<u8, String> {
    loop {
        let mut waiting = std::pin::pin!(client.api.wait_container(id, None::<WaitContainerOptions>));
        let told = match waiting.next().await {
            Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => true,
            Some(Err(_)) | None => false,
        };
        match client.api.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                if state.running != Some(true) {
                    if state.oom_killed == Some(true) {
                        say("the container was killed because its memory ran out");
                    }
                    if let Some(error) = state.error.filter(|error| !error.is_empty()) {
                        say(&format!("the engine says: {error}"));
                    }
                    return Ok(u8::try_from(state.exit_code.unwrap_or(255)).unwrap_or(255));
                }
            }
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                return Err("the container was removed by somebody else".into());
            }
            Err(_) => {}
        }
        tokio::time::sleep(if told { LOOK_SOON } else { LOOK_AGAIN }).await;
    }
}

/// Passes output on for ever: an engine that broke off is asked again.
async fn follow(client: &Client, id: &str, output: &mut Output) {
    loop {
        output.pass_on(&client.api, id, true).await;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Tells of the health that the engine looks after, for ever.
async fn watch_health(client: &Client, found: &Found) {
    if !found.has_health {
        return std::future::pending().await;
    }
    let mut before = None;
    loop {
        let asked = client.api.inspect_container(&found.id, None::<InspectContainerOptions>).await;
        let now = asked.ok().and_then(|found| found.state?.health?.status);
        if now.is_some() && now != before {
            match now {
                Some(HealthStatusEnum::HEALTHY) => tell("READY=1\nSTATUS="),
                Some(HealthStatusEnum::UNHEALTHY) => {
                    say("the engine says that the container is not well");
                    tell("STATUS=the engine says: unhealthy\nWATCHDOG=trigger");
                }
                Some(_) | None => {}
            }
            before = now;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Hands signals over; asked to end, stops the container and waits for that.
async fn obey(client: &Client, order: &Order, id: &str, signals: &mut Signals) -> Result<u8, String> {
    while let Some(name) = signals.next().await {
        let options = KillContainerOptions { signal: name.to_owned() };
        if let Err(error) = client.api.kill_container(id, Some(options)).await {
            say(&format!("SIG{name} could not be handed over: {}", engine::plain(error)));
        }
    }
    tell("STOPPING=1");
    let options = StopContainerOptions { signal: None, t: Some(order.stop_after.map_or(-1, engines_share)) };
    if let Err(error) = client.api.stop_container(id, Some(options)).await {
        say(&format!("the engine did not stop the container: {}", engine::plain(error)));
    }
    ended(client, id).await
}

/// Of so many seconds for a stop, those after which the engine is to kill.
#[expect(clippy::cast_possible_truncation, reason = "a float is cut to the range of the integer")]
fn engines_share(after: f64) -> i32 {
    let ours = (after * OUR_SHARE).max(OUR_LEAST).min(after * OUR_MOST_SHARE);
    (after - ours).floor().max(0.0) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shown to fail: by a share alone, one second of five is left, and a busy engine's container outlives its shim.
    #[test]
    fn the_engine_kills_early_enough_for_what_comes_after() {
        let all = [0.0, 1.0, 2.0, 5.0, 10.0, 60.0].map(engines_share);
        assert_eq!(all, [0, 0, 1, 3, 8, 48]);
    }
}
