//! A certificate authority of the test's own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

/// Signs certificates, and keeps them in a folder that ends with it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let authority = Self {
            issuer: Issuer::new(params, key),
            pem,
            folder: tempfile::tempdir().expect("a folder"),
        };
        fs::write(authority.path("ca.pem"), &authority.pem).expect("written");
        authority
    }

    /// A file of its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Writes `FILE.crt` and `FILE.key` for these names; gives the certificate and the key.
    pub fn write(&self, file: &str, names: &[&str]) -> (CertificateDer<'static>, String) {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        // Renamed into place, as whoever renews certificates does.
        for (ending, pem) in [("crt", certificate.pem()), ("key", key.serialize_pem())] {
            let new = self.path("new");
            fs::write(&new, pem).expect("written");
            fs::rename(new, self.path(&format!("{file}.{ending}"))).expect("renamed");
        }
        (certificate.der().clone(), key.serialize_pem())
    }

    /// `{certificate: …, key: …}` for the configuration.
    pub fn pair(&self, file: &str) -> String {
        let path = |ending| self.path(&format!("{file}.{ending}"));
        let (certificate, key) = (path("crt"), path("key"));
        format!(
            "{{certificate: {}, key: {}}}",
            certificate.display(),
            key.display()
        )
    }

    /// A client that believes this authority, and shows this certificate if there is one.
    pub fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        identity: Option<(CertificateDer<'static>, String)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .expect("a pair")
            }
        }
    }
}
