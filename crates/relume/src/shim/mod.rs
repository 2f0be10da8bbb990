//! Standing in for what is not our child: the process that is a service's own where its configuration has `container:` or
//! `type: external`.
//!
//! # Theory of operation
//!
//! A container is its engine's child, an external service somebody else's. Each such service has a *shim*: a small process of
//! this program that starts the thing, tells how it is (sd_notify(3)), hands signals over, and ends as it ends. To the manager
//! the shim is a service like any other, so supervision, logs, dependencies, limits on restarts and adoption after relume's own
//! death need no second way. The road not taken was a client of the engine inside the manager, which would have to be asked
//! for a container's end in place of the kernel.
//!
//! A shim that is killed leaves what it stands for running; the next one takes it up again.
//!
//! It must never: start a thing twice, touch one that is not its own, end without having said why.

mod external;
mod order;
mod signals;

#[cfg(feature = "containers")]
mod container;

use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

pub(crate) use order::{Order, VARIABLE, What};

/// The exit code of a shim that cannot do its work: sysexits(3), EX_UNAVAILABLE.
pub(crate) const UNAVAILABLE: u8 = 69;

/// The whole life of a shim.
pub(crate) fn run() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match (Order::of_this_process(), runtime) {
        (Ok(order), Ok(runtime)) => runtime.block_on(stand_in(&order)),
        (Err(text), _) => Err(text),
        (_, Err(error)) => Err(format!("no runtime: {error}")),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(text) => {
            say(&text);
            tell(&format!("STATUS={text}"));
            ExitCode::from(UNAVAILABLE)
        }
    }
}

async fn stand_in(order: &Order) -> Result<u8, String> {
    match &order.what {
        What::External(external) => external::stand_in(external).await,
        #[cfg(feature = "containers")]
        What::Container(asked) => container::stand_in(order, asked).await,
        #[cfg(not(feature = "containers"))]
        What::Container(_) => Err("this relume was built without containers".into()),
    }
}

/// Whether somebody listens where this engine should; else why nobody is found.
pub(crate) fn engine_listens(engine: relume_config::Engine) -> Result<String, String> {
    #[cfg(feature = "containers")]
    return container::engine::listens(engine);
    #[cfg(not(feature = "containers"))]
    {
        let _none = engine;
        Err("this relume was built without containers".into())
    }
}

/// A line in the service's log.
fn say(text: &str) {
    // Without a reader there is nobody to tell.
    let _unread = std::io::Write::write_all(&mut std::io::stderr(), format!("relume: {text}\n").as_bytes());
}

/// Words of sd_notify(3) to the manager.
fn tell(words: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Who does not listen does not want to know.
    let _unheard = UnixDatagram::unbound().and_then(|socket| socket.send_to(words.as_bytes(), path));
}
