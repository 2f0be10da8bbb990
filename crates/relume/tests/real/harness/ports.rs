//! TCP ports for services to listen at, and ports at which nobody listens.
//!
//! A port that was free a moment ago may be somebody else's now: beside this test others run, each of which asks the kernel
//! for ports. So those for services are below the range that the kernel gives, in a part of it that is this test's alone.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::{AddressFamily, SocketAddrAny, SocketType, bind, getsockname, socket};

/// The first port of all, and how many each test has. `net.ipv4.ip_local_port_range` begins with 32768.
const FIRST: u16 = 10_000;
const EACH: u16 = 200;
const TESTS: u16 = 100;

/// Which of the tests that run just now this one is: nextest counts them.
fn slot() -> u16 {
    let slot = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok().and_then(|text| text.parse::<u16>().ok());
    slot.unwrap_or_else(|| u16::try_from(std::process::id() % u32::from(TESTS)).unwrap()) % TESTS
}

/// A socket at this port of this machine. Whoever connects to it is refused, and nobody else can have it.
fn taken(port: u16) -> rustix::io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // Without SO_REUSEADDR: a port of which connections linger is not free to every program.
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(socket)
}

/// TCP ports that nobody listens on right now, all different.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let (begin, own) = (FIRST + slot() * EACH, u16::try_from(std::process::id() % u32::from(EACH)).unwrap());
    std::array::from_fn(|_| {
        let tried = (0..EACH).map(|_| begin + (own + NEXT.fetch_add(1, Ordering::Relaxed)) % EACH);
        tried.into_iter().find(|port| taken(*port).is_ok()).expect("a free port")
    })
}

/// A port at which nobody listens, for as long as this is kept.
pub(crate) struct Nobody {
    pub(crate) port: u16,
    _socket: OwnedFd,
}

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = taken(0).unwrap();
        let address: SocketAddrAny = getsockname(&socket).unwrap();
        Self { port: SocketAddrV4::try_from(address).unwrap().port(), _socket: socket }
    }
}
