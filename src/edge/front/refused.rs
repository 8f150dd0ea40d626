//! What the operator hears of clients whose certificate is refused: they themselves hear an alert, if they listen for it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::{CertificateError, Error, OtherError};
use tracing::info;

/// Between two lines at the usual level: anybody can show a bad certificate, as often as they like.
const OFTEN: Duration = Duration::from_secs(10);

/// What was told of late.
#[derive(Debug)]
pub(super) struct Refused(Mutex<Told>);

#[derive(Debug)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Refused {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Told {
            last: None,
            untold: 0,
        }))
    }

    /// Tells of a handshake that failed because of its client's certificate. Of many only now and then.
    pub(super) fn tell(&self, client: SocketAddr, error: &io::Error, now: Instant) {
        let Some(why) = why(error) else {
            return;
        };
        if let Some(untold) = self.turn(now) {
            info!(client = %client.ip(), why, untold, "a client certificate was refused");
        }
    }

    /// Whether it is time for a line, and how many were left out since the last one.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        let waits = |last: Instant| now.saturating_duration_since(last) < OFTEN;
        if told.last.is_some_and(waits) {
            told.untold += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.untold))
    }
}

/// Why the certificate was refused; `None`: something else failed.
fn why(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    match error {
        Error::NoCertificatesPresented => Some("none was shown".to_owned()),
        Error::InvalidCertificate(CertificateError::Other(OtherError(why)))
            if why.to_string().contains("UnsupportedCertVersion") =>
        {
            Some("it is not of X.509 version 3".to_owned())
        }
        Error::InvalidCertificate(why) => Some(why.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE O6: whoever shows bad certificates does not fill the log.
    #[test]
    fn of_many_one_line_is_said_in_a_while() {
        let refused = Refused::new();
        let begun = Instant::now();
        assert_eq!(refused.turn(begun), Some(0));
        for _ in 0..5 {
            assert_eq!(refused.turn(begun + OFTEN / 2), None);
        }
        assert_eq!(refused.turn(begun + OFTEN), Some(5));
        assert_eq!(refused.turn(begun + OFTEN * 2), Some(0));
    }
}
