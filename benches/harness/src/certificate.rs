//! A certificate for the gateway, and what its clients trust.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use crate::Outcome;

/// The name that it is for.
pub(crate) const NAME: &str = "bench.example";

/// A certificate that signs itself, with files for the gateway.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// PEM file of the certificate.
    pub(crate) chain: PathBuf,
    /// PEM file of its key.
    pub(crate) key: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes one, with its files in `folder`.
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain, made.cert.pem())?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&key)?
            .write_all(made.signing_key.serialize_pem().as_bytes())?;
        Ok(Self {
            chain,
            key,
            der: made.cert.into(),
        })
    }

    /// For clients that speak `protocol` (ALPN), TLS 1.3 and nothing older, and shake hands in full every time: resumed
    /// sessions would depend on which tickets are left.
    pub(crate) fn client(&self, protocol: &str) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}
