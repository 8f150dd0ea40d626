//! `upstreams.*.tls` and what `listeners[].tls` shares with it: the files are read and must be what they should be.

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::super::field::Secret;
use super::super::read::Item;
use super::super::{TlsIdentity, UpstreamTls};
use super::keys;

/// `https`: whether the upstream's url, as far as it is known, makes any of this matter.
pub(super) fn read(item: Item<'_>, https: Option<bool>) -> Option<UpstreamTls> {
    let section = item.section(&keys::UPSTREAM_TLS)?;
    let ca = section.get("ca").or_null(|item| authorities(&item));
    let certificate = section
        .get("certificate")
        .or_null(|item| Some((certificates(&item), item)));
    let key = section
        .get("key")
        .or_null(|item| Some((private_key(&item), item)));
    let verify = section.bool("verify");
    let identity = match (certificate?, key?) {
        (None, None) => None,
        (Some((certificate, item)), Some((key, _))) => Some(pair(&item, certificate?, key?)?),
        (Some((_, item)), None) => {
            item.problem("a certificate without its key (write key, too)");
            return None;
        }
        (None, Some((_, item))) => {
            item.problem("a key without its certificate (write certificate, too)");
            return None;
        }
    };
    let tls = UpstreamTls {
        ca: ca?,
        identity,
        insecure: !verify?,
    };
    if https == Some(false) && (tls.ca.is_some() || tls.identity.is_some() || tls.insecure) {
        section
            .item
            .problem("the upstream's url is not https (write https:// there, or remove tls)");
    }
    Some(tls)
}

pub(super) fn authorities(item: &Item<'_>) -> Option<Vec<u8>> {
    let (pem, chain) = certificates(item)?;
    let mut store = RootCertStore::empty();
    if chain
        .into_iter()
        .any(|certificate| store.add(certificate).is_err())
    {
        item.problem(format!(
            "{} holds a certificate that is no authority's (write a PEM file of authorities)",
            item.shown()
        ));
        return None;
    }
    Some(pem)
}

pub(super) type Chain = Vec<CertificateDer<'static>>;

pub(super) fn certificates(item: &Item<'_>) -> Option<(Vec<u8>, Chain)> {
    let pem = item.file()?;
    let chain: Result<Chain, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Some((pem, chain)),
        _ => {
            item.problem(format!(
                "{} holds no certificate (write a PEM file of certificates)",
                item.shown()
            ));
            None
        }
    }
}

pub(super) fn private_key(item: &Item<'_>) -> Option<(String, PrivateKeyDer<'static>)> {
    let pem = item.file()?;
    let key = PrivateKeyDer::from_pem_slice(&pem).ok();
    match (String::from_utf8(pem), key) {
        (Ok(pem), Some(key)) => Some((pem, key)),
        _ => {
            item.problem(format!(
                "{} holds no private key (write a PEM file of one without password)",
                item.shown()
            ));
            None
        }
    }
}

pub(super) fn pair(
    item: &Item<'_>,
    (certificate, chain): (Vec<u8>, Chain),
    (key, der): (String, PrivateKeyDer<'static>),
) -> Option<TlsIdentity> {
    match CertifiedKey::from_der(chain, der, &ring::default_provider()) {
        Ok(_) => Some(TlsIdentity {
            certificate,
            key: Secret::new(key),
        }),
        Err(_) => {
            item.problem(
                "the certificate and the key do not belong together (write those of one pair)",
            );
            None
        }
    }
}
