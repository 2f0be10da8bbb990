//! What a batch is handed to: one protocol, one receiver.

use std::time::Duration;

use relume_config::{Forward, Receiver};
use tokio::io::AsyncWriteExt;
use tokio::net::{UdpSocket, UnixDatagram, UnixStream};
use tokio::time::timeout;

use super::net::{Connection, Stream};
use super::record::Record;
use super::{fluent, journald, otlp, syslog};

/// How long a receiver may take over one batch.
const SEND: Duration = Duration::from_secs(30);

/// So long must a connection without acknowledgements have stood behind a batch: the reset of a receiver that has
/// died arrives in that time.
const STANDS: Duration = Duration::from_secs(1);

/// Datagrams sent at once before the receiver gets a moment: UDP drops what does not fit into its buffer.
const BURST: usize = 32;
const MOMENT: Duration = Duration::from_millis(2);

/// The largest message that is put into one datagram of UDP, in bytes: below what the protocol can carry.
const LARGEST_DATAGRAM: usize = 60_000;

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The receiver has it.
    Taken,
    /// It is on its way; ask again after this time.
    OnItsWay(Duration),
    /// The receiver will never take it, and says why.
    Refused(String),
}

/// See the module's description.
pub(super) struct Sink {
    target: Forward,
    link: Link,
}

enum Link {
    None,
    Stream(Connection),
    Udp(UdpSocket),
    Local(UnixDatagram),
    LocalStream(Box<dyn Stream>),
}

impl Sink {
    pub(super) fn new(target: Forward) -> Self {
        Self { target, link: Link::None }
    }

    /// Sends a batch. An error says why it could not be; the connection is given up then.
    pub(super) async fn send(&mut self, batch: &[Record]) -> Result<Sent, String> {
        let slow = format!("the receiver took more than {} s over one batch", SEND.as_secs());
        let sent = timeout(SEND, self.try_send(batch)).await.unwrap_or(Err(slow));
        if sent.is_err() {
            self.link = Link::None;
        }
        sent
    }

    /// Whether what was on its way has arrived. An error: it may be lost.
    pub(super) fn has_arrived(&mut self) -> Result<bool, String> {
        match &self.link {
            Link::Stream(connection) if connection.is_closed() => {
                self.link = Link::None;
                Err("the receiver has closed the connection".into())
            }
            Link::Stream(connection) => Ok(connection.is_delivered()),
            Link::None => Err("the connection was lost".into()),
            Link::Udp(_) | Link::Local(_) | Link::LocalStream(_) => Ok(true),
        }
    }

    async fn try_send(&mut self, batch: &[Record]) -> Result<Sent, String> {
        let target = self.target.clone();
        match &target.to {
            Receiver::SyslogUdp(address) => {
                if !matches!(self.link, Link::Udp(_)) {
                    self.link = Link::Udp(udp(&address.host, address.port).await?);
                }
                let Link::Udp(socket) = &self.link else { return Err("no socket".into()) };
                for burst in batch.chunks(BURST) {
                    for record in burst {
                        let message = syslog::message(record, &target, LARGEST_DATAGRAM);
                        socket.send(&message).await.map_err(|error| error.to_string())?;
                    }
                    tokio::time::sleep(MOMENT).await;
                }
                Ok(Sent::Taken)
            }
            Receiver::SyslogTcp(address) => self.syslog_stream(address, false, &target, batch).await,
            Receiver::SyslogTls(address) => self.syslog_stream(address, true, &target, batch).await,
            Receiver::SyslogUnix(path) => {
                self.open_local(path).await?;
                let message = |record| syslog::message(record, &target, usize::MAX);
                self.send_local(batch.iter().map(message)).await
            }
            Receiver::Journald(path) => {
                self.open_local(path).await?;
                self.send_local(batch.iter().map(journald::message)).await
            }
            Receiver::Fluent { address, tls } => {
                let mut connection = self.stream(address, *tls, &target).await?;
                fluent::send(&mut *connection.stream, batch, &target.tag).await?;
                self.link = Link::Stream(connection);
                Ok(Sent::Taken)
            }
            Receiver::Otlp { address, path, tls } => {
                // Collectors balance by connection: one for each batch, of which there are few.
                let connection = Connection::open(address, *tls, &target).await?;
                otlp::send(connection.stream, (address, path), &target.headers, batch).await
            }
        }
    }

    async fn syslog_stream(
        &mut self,
        address: &relume_config::Address,
        tls: bool,
        target: &Forward,
        batch: &[Record],
    ) -> Result<Sent, String> {
        let mut connection = self.stream(address, tls, target).await?;
        let mut bytes = Vec::new();
        for record in batch {
            let message = syslog::message(record, target, usize::MAX);
            bytes.extend_from_slice(format!("{} ", message.len()).as_bytes());
            bytes.extend_from_slice(&message);
        }
        let written = async {
            connection.stream.write_all(&bytes).await?;
            connection.stream.flush().await
        };
        written.await.map_err(|error: std::io::Error| error.to_string())?;
        self.link = Link::Stream(connection);
        Ok(Sent::OnItsWay(STANDS))
    }

    /// The connection there is, or a new one. It is taken out: one that is given up half way is not used again.
    async fn stream(
        &mut self,
        address: &relume_config::Address,
        tls: bool,
        target: &Forward,
    ) -> Result<Connection, String> {
        match std::mem::replace(&mut self.link, Link::None) {
            Link::Stream(connection) if connection.is_closed() => {
                Err("the receiver has closed the connection".into())
            }
            Link::Stream(connection) => Ok(connection),
            Link::None | Link::Udp(_) | Link::Local(_) | Link::LocalStream(_) => {
                Connection::open(address, tls, target).await
            }
        }
    }

    async fn open_local(&mut self, path: &std::path::Path) -> Result<(), String> {
        if !matches!(self.link, Link::None) {
            return Ok(());
        }
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let socket = UnixDatagram::unbound().map_err(failed)?;
        self.link = match socket.connect(path) {
            Ok(()) => Link::Local(socket),
            // EPROTOTYPE: some daemons listen for streams there.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
                Link::LocalStream(Box::new(UnixStream::connect(path).await.map_err(failed)?))
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(())
    }

    /// A local socket takes a message or makes us wait.
    async fn send_local(&mut self, messages: impl Iterator<Item = Vec<u8>>) -> Result<Sent, String> {
        for mut message in messages {
            match &mut self.link {
                Link::Local(socket) => socket.send(&message).await.map(drop),
                Link::LocalStream(stream) => {
                    // Such daemons part messages by NUL (what glibc's syslog sends).
                    message.push(0);
                    stream.write_all(&message).await
                }
                Link::None | Link::Stream(_) | Link::Udp(_) => return Err("no socket".into()),
            }
            .map_err(|error| error.to_string())?;
        }
        Ok(Sent::Taken)
    }
}

async fn udp(host: &str, port: u16) -> Result<UdpSocket, String> {
    let mut last = format!("{host}: the name has no address");
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host}: {error}"))?;
    for address in found {
        let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}
