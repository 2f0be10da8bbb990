//! Connections to receivers: TCP, with TLS where it is wanted.

use std::os::fd::OwnedFd;
use std::time::Duration;

use relume_config::{Address, Forward};
use relume_os::sockets;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to come about, a name to be looked up included.
const CONNECT: Duration = Duration::from_secs(10);

/// A stream to a receiver.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and another descriptor of it to be asked about.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    socket: OwnedFd,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(address: &Address, tls: bool, target: &Forward) -> Result<Self, String> {
        let Address { host, port } = address;
        let connect = async {
            let stream =
                TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
            // Batches are written whole: waiting for more would only delay them.
            let _slower = stream.set_nodelay(true);
            let socket = rustix::io::dup(&stream).map_err(|error| std::io::Error::from(error).to_string())?;
            let stream: Box<dyn Stream> =
                if tls { secured(stream, host, target).await? } else { Box::new(stream) };
            Ok(Self { stream, socket })
        };
        timeout(CONNECT, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT.as_secs())))
    }

    /// Whether the other kernel has acknowledged all that was written.
    pub(super) fn is_delivered(&self) -> bool {
        sockets::unacknowledged(&self.socket).is_ok_and(|bytes| bytes == 0)
    }

    /// Whether the other side has closed it, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        let mut byte = [0];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        match rustix::net::recv(&self.socket, &mut byte, flags) {
            Ok((read, _)) => read == 0,
            Err(error) => error != rustix::io::Errno::AGAIN && error != rustix::io::Errno::INTR,
        }
    }
}

#[cfg(feature = "tls")]
async fn secured(stream: TcpStream, host: &str, target: &Forward) -> Result<Box<dyn Stream>, String> {
    use std::sync::Arc;

    use rustls_pki_types::ServerName;

    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client(target)?));
    let secured = connector.connect(name, stream).await.map_err(|error| format!("TLS: {}", said(&error)))?;
    Ok(Box::new(secured))
}

/// Why there is no TLS, as far as the one who set it up can do something about it.
#[cfg(feature = "tls")]
fn said(error: &std::io::Error) -> String {
    use rustls::{CertificateError as Bad, Error};

    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let Some(Error::InvalidCertificate(bad)) = inner else { return error.to_string() };
    #[expect(clippy::wildcard_enum_match_arm, reason = "a list of another crate that grows; the rest says itself")]
    match bad {
        Bad::UnknownIssuer => {
            "the receiver's certificate is signed by nobody who is trusted; name its authority's file with `?ca=`".into()
        }
        Bad::Expired | Bad::ExpiredContext { .. } => "the receiver's certificate has expired".into(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => "the receiver's certificate is not valid yet".into(),
        Bad::NotValidForName => "the receiver's certificate is for another host".into(),
        Bad::NotValidForNameContext { expected, presented } => {
            // `IpAddress(127.0.0.9)`, `DnsName("host")`: without the kind.
            let bare = |name: &String| {
                let name = name.split_once('(').map_or(name.as_str(), |(_, name)| name.trim_end_matches(')'));
                name.trim_matches('"').to_owned()
            };
            let names = presented.iter().map(bare).collect::<Vec<_>>().join(", ");
            format!("the receiver's certificate is for {names}, not for {}", expected.to_str())
        }
        Bad::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the receiver shows the certificate of an authority (CA:TRUE); it needs one of a server".into()
        }
        other => format!("the receiver's certificate is not accepted: {other}"),
    }
}

/// Whom to trust: the certificates of the file, else the system's.
#[cfg(feature = "tls")]
fn client(target: &Forward) -> Result<rustls::ClientConfig, String> {
    use std::sync::Arc;

    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    let certificates = match &target.ca {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("{}: {error}", path.display()))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    // One that cannot be read does not take the others away.
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        return Err("there is no certificate authority to trust; name a file with `?ca=`".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(not(feature = "tls"))]
async fn secured(_: TcpStream, _: &str, _: &Forward) -> Result<Box<dyn Stream>, String> {
    Err("this relume was built without TLS".into())
}
