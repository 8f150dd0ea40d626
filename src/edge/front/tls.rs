//! TLS of a listener: certificates by name, sessions that resume without memory of ours, and files that are read again when
//! they change (EDGE X9–X11, X14). rustls with its ring provider has no suite without forward secrecy and AEAD, no
//! renegotiation, no compression; early data stays off.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info, warn};
use x509_parser::extensions::GeneralName;

use super::super::reply::{self, Rejection};
use super::super::request;
use crate::config::{PemFile, Secret, ServerTls, TlsVersion};

/// How often the files are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// What a session may hold that the socket does not take.
const SESSION_BUFFER: usize = 64 * 1024;

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{file} cannot be read: {error}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{file}: {why}", file = file.display())]
    Content {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Everything is there, and it does not fit together.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// How a listener speaks TLS now.
#[derive(Debug)]
pub(super) struct Tls {
    config: ArcSwap<rustls::ServerConfig>,
    files: Mutex<Files>,
}

/// What the configuration was made from.
#[derive(Debug)]
struct Files {
    from: ServerTls,
    /// Of all files: what tells that one may have changed.
    marks: Vec<Option<Mark>>,
    /// The problem that was told about last.
    told: u64,
}

/// Which protocol the client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alpn {
    /// `http/1.1`, or nothing.
    Http1,
    /// `h2`
    Http2,
}

impl Tls {
    /// From files that were read with the configuration.
    pub(super) fn new(from: &ServerTls) -> Result<Self, TlsError> {
        let config = server_config(from)?;
        let marks = marks(from);
        for certificate in &from.certificates {
            warn_of_readers(&certificate.key.path);
        }
        Ok(Self {
            config: ArcSwap::from_pointee(config),
            files: Mutex::new(Files {
                from: from.clone(),
                marks,
                told: 0,
            }),
        })
    }

    /// Shakes hands.
    pub(super) async fn accept(
        &self,
        mut tcp: TcpStream,
    ) -> io::Result<(Box<TlsStream<TcpStream>>, Alpn)> {
        const HANDSHAKE: u8 = 22;
        let mut first = [0];
        if tcp.peek(&mut first).await? == 1
            && first[0].is_ascii_uppercase()
            && first[0] != HANDSHAKE
        {
            let why = Rejection::BadRequest("This port speaks TLS: write https://.");
            tcp.write_all(&reply::to_http1(&why, &request::id(b""), false))
                .await?;
            return Err(io::Error::other("a plain request"));
        }
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let accept = acceptor.accept_with(tcp, |session| {
            session.set_buffer_limit(Some(SESSION_BUFFER));
        });
        // Large, and of no use afterwards.
        let stream = Box::pin(accept).await?;
        let alpn = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            _ => Alpn::Http1,
        };
        Ok((Box::new(stream), alpn))
    }

    /// Looks whether a file has changed; if so, all are read again, and used if they are good. Blocks.
    pub(super) fn look(&self) {
        let mut files = self.files.lock();
        // Taken before reading: what changes meanwhile is seen the next time.
        let marks = marks(&files.from);
        if marks == files.marks {
            return;
        }
        match read_again(&files.from).and_then(|from| Ok((server_config(&from)?, from))) {
            Ok((config, from)) => {
                files.marks = marks;
                files.told = 0;
                if from != files.from {
                    self.config.store(Arc::new(config));
                    files.from = from;
                    info!("certificates have changed and are used for new connections");
                }
            }
            // One of several files may be written a moment later: it is tried again, and told once.
            Err(error) => {
                let told = hash(&error.to_string());
                if std::mem::replace(&mut files.told, told) != told {
                    error!(%error, "changed certificates are not used, those before go on");
                }
            }
        }
    }
}

fn server_config(from: &ServerTls) -> Result<rustls::ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[&rustls::SupportedProtocolVersion] = match from.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)?;
    let builder = match &from.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(file)?), provider);
            let verifier = verifier
                .build()
                .map_err(|error| content(&file.path, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName::new(from)?));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Tickets are kept by the clients: when all reconnect at once, all resume.
    config.ticketer = ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn authorities(file: &PemFile) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in chain(file)? {
        store
            .add(certificate)
            .map_err(|error| content(&file.path, &error))?;
    }
    Ok(store)
}

fn chain(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&file.pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(content(&file.path, &"holds no certificate")),
    }
}

fn content(file: &Path, why: &dyn std::fmt::Display) -> TlsError {
    TlsError::Content {
        file: file.to_owned(),
        why: why.to_string(),
    }
}

/// Certificates by the name that the client asks for: exactly, then by the wildcard above it, then the first one.
#[derive(Debug)]
struct ByName {
    names: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl ByName {
    fn new(from: &ServerTls) -> Result<Self, TlsError> {
        let mut names = HashMap::new();
        let mut first = None;
        for pair in &from.certificates {
            let file = &pair.certificate;
            let key = PrivateKeyDer::from_pem_slice(pair.key.pem.expose().as_bytes())
                .map_err(|_| content(&pair.key.path, &"holds no private key"))?;
            let certified = CertifiedKey::from_der(chain(file)?, key, &ring::default_provider())
                .map_err(|error| content(&file.path, &error))?;
            let certified = Arc::new(certified);
            for name in dns_names(certified.end_entity_cert()?, &file.path)? {
                // Of two certificates for one name the earlier stands.
                names.entry(name).or_insert_with(|| certified.clone());
            }
            first.get_or_insert(certified);
        }
        let first = first.ok_or_else(|| rustls::Error::General("no certificate".into()))?;
        Ok(Self { names, first })
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = hello.server_name().and_then(|name| {
            // rustls has made it lowercase and has seen that it is a name.
            let above = || name.split_once('.').map(|(_, above)| format!("*.{above}"));
            self.names.get(name).or_else(|| self.names.get(&above()?))
        });
        Some(found.unwrap_or(&self.first).clone())
    }
}

/// The names that a certificate itself says, lowercase (RFC 6125: subjectAltName alone). That it is over is only warned of:
/// a gateway that serves nobody helps less.
fn dns_names(leaf: &CertificateDer<'_>, file: &Path) -> Result<Vec<String>, TlsError> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(leaf).map_err(|error| content(file, &error))?;
    if !parsed.validity().is_valid() {
        warn!(file = %file.display(), "this certificate is over, or not valid yet: clients refuse it");
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| content(file, &error))?;
    let names = names
        .into_iter()
        .flat_map(|names| &names.value.general_names);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect())
}

/// The same files as they are now.
fn read_again(from: &ServerTls) -> Result<ServerTls, TlsError> {
    let mut now = from.clone();
    for pair in &mut now.certificates {
        pair.certificate.pem = read(&pair.certificate.path)?;
        let pem = String::from_utf8(read(&pair.key.path)?)
            .map_err(|_| content(&pair.key.path, &"holds no private key"))?;
        pair.key.pem = Secret::new(pem);
    }
    if let Some(file) = &mut now.client_ca {
        file.pem = read(&file.path)?;
    }
    Ok(now)
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|error| TlsError::File {
        file: file.to_owned(),
        error,
    })
}

/// What tells that a file may have changed. Links are followed, so a swapped link shows.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn marks(of: &ServerTls) -> Vec<Option<Mark>> {
    let pairs = of.certificates.iter();
    let files = pairs.flat_map(|pair| [&pair.certificate.path, &pair.key.path]);
    let files = files.chain(of.client_ca.iter().map(|file| &file.path));
    files
        .map(|file| {
            let data = fs::metadata(file).ok()?;
            Some(Mark {
                device: data.dev(),
                inode: data.ino(),
                size: data.size(),
                modified: (data.mtime(), data.mtime_nsec()),
                changed: (data.ctime(), data.ctime_nsec()),
            })
        })
        .collect()
}

/// EDGE X14.
fn warn_of_readers(key: &Path) {
    let mode = fs::metadata(key).map(|data| data.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        warn!(file = %key.display(), "others than its owner can read this private key (chmod 600)");
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
