//! `wellspring health`: asks the running gateway whether it lives, for container health checks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::run::{default_file, no_file};
use super::{FAILED, print};
use crate::admin::reach;
use crate::config;

/// For all of it.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) fn health(config: Option<PathBuf>) -> u8 {
    match ask(config) {
        Ok(said) => print(&said),
        Err(why) => {
            eprintln!("{}", why.trim_end());
            FAILED
        }
    }
}

/// The answer in a line, or why there is none.
fn ask(config: Option<PathBuf>) -> Result<String, String> {
    let file = config.or_else(default_file).ok_or_else(no_file)?;
    let config = config::load(&file).map_err(|problems| problems.to_string())?;
    let Some(admin) = config.admin else {
        return Err(
            "the admin listener is off: nobody can be asked (remove `admin: off`)".to_owned(),
        );
    };
    let address = reach(admin.address);
    match status(address) {
        Ok(200) => Ok(format!("{address}/livez: ok")),
        Ok(status) => Err(format!("{address}/livez: status {status}")),
        Err(error) => Err(format!("{address}/livez: {error}")),
    }
}

fn status(address: SocketAddr) -> io::Result<u16> {
    let deadline = Instant::now() + LIMIT;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        // The system takes zero for no limit.
        left.max(Duration::from_millis(1))
    };
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 256];
    while !answer.contains(&b'\n') && answer.len() < 1024 {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
            }
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no gateway"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::status;

    #[test]
    fn what_answers_otherwise_is_no_gateway() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let answers = [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 503 Service Unavailable\r\n",
            "SSH-2.0\r\n",
            "",
        ];
        let served = std::thread::spawn(move || {
            use std::io::{Read, Write};
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("somebody asks");
                let mut request = [0; 512];
                let _ = stream.read(&mut request);
                stream.write_all(answer.as_bytes()).expect("written");
            }
        });
        assert_eq!(status(address).ok(), Some(200));
        assert_eq!(status(address).ok(), Some(503));
        assert!(status(address).is_err());
        assert!(status(address).is_err());
        served.join().expect("served");
        // Nobody listens any more.
        assert!(status(address).is_err());
    }
}
