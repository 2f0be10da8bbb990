//! TLS under a probe or a webhook. The certificate of a webhook is judged by those the system trusts. That of a probe is not: a probe asks whether a service answers, most often by an address
//! that no certificate names, and sends nothing but what the configuration says.

use tokio::net::TcpStream;

#[cfg(feature = "tls")]
pub(super) use with::over;

/// This build speaks no TLS: each probe by `https` fails and says so.
#[cfg(not(feature = "tls"))]
pub(super) async fn over(_host: &str, _connection: TcpStream, _proves: bool) -> Result<TcpStream, String> {
    Err("this relume was built without TLS".into())
}

#[cfg(feature = "tls")]
mod with {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::TcpStream;

    /// Shakes hands; `proves`: only with somebody who can prove that he is `host`.
    pub(in super::super) async fn over(
        host: &str,
        connection: TcpStream,
        proves: bool,
    ) -> Result<TlsStream<TcpStream>, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| format!("no name for TLS: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("no TLS: {error}"))?;
        let config = if proves {
            let trusted = tokio::task::spawn_blocking(trusted).await;
            builder
                .with_root_certificates(trusted.map_err(|error| format!("no certificates: {error}"))?)
                .with_no_client_auth()
        } else {
            let any = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
        };
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, connection).await.map_err(|error| format!("no TLS: {error}"))
    }

    /// Those whom this system trusts. What cannot be read is trusted by nobody.
    fn trusted() -> RootCertStore {
        let mut all = RootCertStore::empty();
        all.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        all
    }

    /// Takes whoever holds the key of the certificate shown.
    #[derive(Debug)]
    struct AnyCertificate(Arc<CryptoProvider>);

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _end_entity: &CertificateDer<'_>,
            _intermediates: &[CertificateDer<'_>],
            _server_name: &ServerName<'_>,
            _ocsp_response: &[u8],
            _now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
