//! A certificate authority of the test's own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SigningKey};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
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

    /// A certificate as there were before X.509 had versions (RFC 5280 §4.1.2.1: version 1 is not written), and its key.
    pub fn version_1(&self) -> (CertificateDer<'static>, String) {
        const SEQUENCE: u8 = 0x30;
        const BIT_STRING: u8 = 0x03;
        let (certificate, key) = self.write("version-1", &["client"]);
        let [signed, algorithm, _] = &parts(content(&certificate))[..] else {
            panic!("a certificate has three parts");
        };
        // Without what is tagged: version and extensions.
        let fields = parts(content(signed));
        let fields = fields.into_iter().filter(|field| field[0] & 0xe0 != 0xa0);
        let signed = der(SEQUENCE, &fields.collect::<Vec<_>>().concat());
        let signature = self.issuer.key().sign(&signed).expect("signs");
        let signature = der(BIT_STRING, &[&[0], &signature[..]].concat());
        let whole = [&signed[..], algorithm, &signature].concat();
        (der(SEQUENCE, &whole).into(), key)
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
                let key = any_supported_type(&key).expect("a key");
                // As it is, also where no client in its right mind would show it.
                let shown = CertifiedKey::new(vec![certificate], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        }
    }
}

/// A value in DER (X.690 §8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .expect("is short")
        .to_be_bytes();
    let length = match (high, low) {
        (0, ..0x80) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], &length[..], content].concat()
}

/// Where the content of a value begins, and where it ends.
fn bounds(value: &[u8]) -> (usize, usize) {
    let (begin, length) = match value[1] {
        0x82 => (4, usize::from(value[2]) << 8 | usize::from(value[3])),
        0x81 => (3, usize::from(value[2])),
        length => (2, usize::from(length)),
    };
    (begin, begin + length)
}

fn content(value: &[u8]) -> &[u8] {
    let (begin, end) = bounds(value);
    &value[begin..end]
}

/// The values that stand one after the other.
fn parts(mut values: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while !values.is_empty() {
        let (part, rest) = values.split_at(bounds(values).1);
        parts.push(part);
        values = rest;
    }
    parts
}
