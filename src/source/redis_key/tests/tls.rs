//! EDGE R7: TLS is used, and verified, with one server and with several that stand for one.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::RootCertStore;

use super::{error, fill, reading, source};
use crate::config::{
    Endpoint, RedisLogin, RedisNodes, RedisPlace, RedisSentinel, RedisServer, RedisShape,
};
use crate::source::Cause;
use crate::source::redis_server::RedisClient;
use crate::source::redis_server::test_redis::{TestRedis, free_port, wait_until};

/// Servers with one certificate, whose authority nobody else has.
struct Tls {
    files: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Tls {
    /// The certificate is for `name`, a name or an address.
    fn of(name: &str) -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than the server's certificate has, or OpenSSL takes that one for its own issuer.
        authority
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new([name.to_owned()])
            .and_then(|params| params.signed_by(&key, &authority))
            .expect("a certificate");
        let files = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("cert", certificate.pem()),
            ("key", key.serialize_pem()),
            ("ca", authority.pem()),
        ] {
            std::fs::write(files.path().join(name), text).expect("written");
        }
        Self { files, authority }
    }

    /// Starts a server with TLS on a port of its own.
    fn start(&self, config: Option<&str>, more: &[&str]) -> (TestRedis, u16) {
        let port = free_port();
        let file = |name| self.files.path().join(name).display().to_string();
        let (cert, key, ca) = (file("cert"), file("key"), file("ca"));
        let tls = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &cert,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &ca,
            "--tls-auth-clients",
            "no",
        ];
        let redis = TestRedis::start_as(config, &[more, &tls].concat());
        (redis, port)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.authority.der().clone())
            .expect("a certificate");
        roots
    }

    /// A client of `nodes`, which trusts the authority.
    fn client(&self, nodes: RedisNodes) -> RedisClient {
        let server = RedisServer {
            name: "main".into(),
            place: RedisPlace::Network { tls: true, nodes },
            login: RedisLogin::default(),
            database: 0,
        };
        RedisClient::for_test_of(&server, Some(self.roots()))
    }
}

async fn reads(client: &RedisClient) -> Result<String, Cause> {
    reading(&mut source(client, RedisShape::String, "string")).await
}

#[tokio::test]
async fn tls_connections_are_verified() {
    let tls = Tls::of("localhost");
    let (redis, port) = tls.start(None, &[]);
    fill(&redis);
    let at = |host, port| RedisNodes::One(Endpoint::new(host, port));
    assert!(reads(&tls.client(at("localhost", port))).await.is_ok());

    let other_authority = Tls::of("localhost").client(at("localhost", port));
    let other_name = tls.client(at("127.0.0.1", port));
    // To a server without TLS a handshake is the beginning of a command, whose end it waits for.
    let no_tls = tls.client(at("localhost", redis.port()));
    for (client, cause) in [
        (other_authority, Cause::Tls),
        (other_name, Cause::Tls),
        (no_tls, Cause::Timeout),
    ] {
        let failed = error(&mut source(&client, RedisShape::String, "string")).await;
        assert_eq!(failed.cause, cause, "{failed}");
    }
}

/// The sentinels are reached over TLS as the master is, and both are verified by the names that they have there.
#[tokio::test]
async fn sentinels_and_their_master_are_verified() {
    let tls = Tls::of("127.0.0.1");
    let (master, port) = tls.start(None, &[]);
    fill(&master);
    let config = format!("sentinel monitor mymaster 127.0.0.1 {port} 1\n");
    let more = ["--sentinel", "--tls-replication", "yes"];
    let (_sentinel, sentinel_port) = tls.start(Some(&config), &more);
    let asking = |host| {
        RedisNodes::Sentinel(RedisSentinel {
            master: "mymaster".into(),
            nodes: vec![Endpoint::new(host, sentinel_port)],
            login: RedisLogin::default(),
        })
    };
    assert!(reads(&tls.client(asking("127.0.0.1"))).await.is_ok());
    let other_name = tls.client(asking("localhost"));
    assert_eq!(reads(&other_name).await, Err(Cause::Tls));
    let other_authority = Tls::of("127.0.0.1").client(asking("127.0.0.1"));
    assert_eq!(reads(&other_authority).await, Err(Cause::Tls));
}

/// Nodes of a cluster are verified by the names that they have for each other.
#[tokio::test]
async fn nodes_of_a_cluster_are_verified() {
    let tls = Tls::of("127.0.0.1");
    let bus = free_port().to_string();
    let more = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--tls-cluster",
        "yes",
        "--cluster-announce-ip",
        "127.0.0.1",
    ];
    let (node, port) = tls.start(None, &more);
    node.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    wait_until("the cluster is whole", || {
        node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    });
    fill(&node);
    let seeds = |host| RedisNodes::Cluster(vec![Endpoint::new(host, port)]);
    assert!(reads(&tls.client(seeds("127.0.0.1"))).await.is_ok());
    assert_eq!(
        reads(&tls.client(seeds("localhost"))).await,
        Err(Cause::Tls)
    );
}
