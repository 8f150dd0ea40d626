//! The real gateway in this process, on a free port.

use std::net::SocketAddr;

use wellspring::config::{self, Config};
use wellspring::gateway::Gateway;

/// A running gateway. Its streams end with the test's runtime.
pub struct TestGateway {
    pub address: SocketAddr,
    pub gateway: Gateway,
}

impl TestGateway {
    /// `file` without its `listeners`; `{upstream}` and the like are for the caller to fill.
    pub fn start(file: &str) -> Self {
        Self::listening("  - address: 127.0.0.1:0", file)
    }

    /// The same with these `listeners`, the first of which is its address.
    pub fn listening(listeners: &str, file: &str) -> Self {
        // Another test of this process may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gateway = Gateway::start(Self::config_listening(listeners, file)).expect("starts");
        let address = gateway.addresses()[0];
        Self { address, gateway }
    }

    /// What `file`, without its `listeners`, says.
    pub fn config(file: &str) -> Config {
        Self::config_listening("  - address: 127.0.0.1:0", file)
    }

    fn config_listening(listeners: &str, file: &str) -> Config {
        let admin = if file.contains("admin:") {
            ""
        } else {
            "admin: off\n"
        };
        let file = format!("listeners:\n{listeners}\n{admin}{file}");
        match config::parse("test.yaml", &file, &|_| None) {
            Ok(config) => config,
            Err(problems) => panic!("{problems}\n{file}"),
        }
    }

    /// A gateway with one HTTP stream at `/value` that polls every 50 ms, and `more` keys of it, indented by four.
    pub fn polling(upstream: &str, more: &str) -> Self {
        Self::start(&format!(
            "upstreams:\n  legacy: {{url: \"{upstream}\"}}\nstreams:\n  - path: /value\n    http: {{upstream: legacy}}\n    \
             every: 50ms\n{more}"
        ))
    }
}
