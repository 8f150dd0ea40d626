//! The binary itself: commands, exit codes, files (CONTRACT §1).

#![expect(clippy::expect_used, reason = "a test says what it expects")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn wellspring(args: &[&str]) -> Output {
    command(args).output().expect("runs")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellspring"));
    command
        .args(args)
        .current_dir(ROOT)
        .env_remove("WELLSPRING_CONFIG")
        .env_remove("WELLSPRING_LOG");
    command
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("readable").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(ROOT)
        .expect("in the project")
        .display()
        .to_string()
}

#[test]
fn every_shipped_file_is_accepted() {
    let mut files = files("config", ".yaml");
    files.extend(self::files("tests/config/ok", ".yaml"));
    let examples = self::files("examples", "wellspring.yaml");
    assert!(
        examples.len() >= 6 && files.len() >= 4,
        "found {} and {}",
        examples.len(),
        files.len()
    );
    // What examples let operators bring along.
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let bring = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path
    };
    let certificate = bring("tls.crt", key.cert.pem());
    let private = bring("tls.key", key.signing_key.serialize_pem());
    for file in files.iter().chain(&examples) {
        let output = command(&["check", &relative(file)])
            .env("JWT_SECRET", "a secret of more than thirty-two bytes")
            .env("TLS_CERTIFICATE", &certificate)
            .env("TLS_KEY", &private)
            .output()
            .expect("runs");
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{}: ok\n", relative(file))
        );
    }
}

#[test]
fn every_bad_file_is_refused_with_every_problem() {
    let files = files("tests/config/bad", ".yaml");
    assert!(files.len() > 20, "found {}", files.len());
    for file in files {
        let output = wellspring(&["check", &relative(&file)]);
        let expected = fs::read_to_string(file.with_extension("expect")).expect("an expectation");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            expected,
            "{}",
            file.display()
        );
        assert_eq!(output.status.code(), Some(78), "{}", file.display());
        let run = wellspring(&["run", "--config", &relative(&file)]);
        assert_eq!(run.status.code(), Some(78), "{}", file.display());
    }
}

#[test]
fn wrong_usage_is_64_and_a_missing_file_78() {
    assert_eq!(wellspring(&["fly"]).status.code(), Some(64));
    assert_eq!(wellspring(&["check"]).status.code(), Some(64));
    assert_eq!(
        wellspring(&["--log-level", "a=b=c", "schema"])
            .status
            .code(),
        Some(64)
    );
    let missing = wellspring(&["check", "no/such.yaml"]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("no/such.yaml:1:1: "));
    assert_eq!(
        wellspring(&["run", "--config", "no/such.yaml"])
            .status
            .code(),
        Some(78)
    );
    let nowhere = tempfile::tempdir().expect("a folder");
    let none = command(&["run"])
        .current_dir(nowhere.path())
        .output()
        .expect("runs");
    assert_eq!(none.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&none.stderr).contains("/etc/wellspring/wellspring.yaml"));
    let help = wellspring(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
    assert_eq!(
        wellspring(&["--version"]).stdout,
        format!("wellspring {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );
}

#[test]
fn the_schema_is_json() {
    let output = wellspring(&["schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_port_that_is_taken_is_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wellspring.yaml");
    let address = taken.local_addr().expect("bound");
    fs::write(&file, format!("admin: off\nlisteners: [{{address: \"{address}\"}}]\nstreams: [{{path: /a, publish: {{path: /p}}}}]\n")).expect("written");
    let output = wellspring(&["run", "--config", file.to_str().expect("a name")]);
    assert_eq!(
        output.status.code(),
        Some(69),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A running binary; killed by `Drop`.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(folder: &Path, file: &str) -> Self {
        fs::write(folder.join("wellspring.yaml"), file).expect("written");
        let mut child = command(&["run"])
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next().expect("a listening line").expect("text");
            if let Some((_, address)) = line.split_once("address=") {
                break address.trim().to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .expect("kill runs")
                .success()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PUBLISH: &str = "admin: off\nlisteners: [{address: \"127.0.0.1:0\"}]\nstreams: [{path: /a, publish: {path: /p}}]\nshutdown: {drain: 1s}\n";

#[test]
fn run_finds_its_file_serves_and_stops_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut running = Running::start(folder.path(), PUBLISH);
        let mut stream = TcpStream::connect(&running.address).expect("connects");
        stream
            .write_all(b"GET /a HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
            .expect("sent");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while !line.starts_with("retry: ") {
            line.clear();
            assert!(reader.read_line(&mut line).expect("text") > 0);
        }
        running.signal(signal);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("a clean end");
        assert!(
            rest.contains("event: closing\ndata: {\"reason\":\"drain\"}\n\n")
                && rest.ends_with("0\r\n\r\n"),
            "{rest}"
        );
        assert_eq!(
            running.child.wait().expect("ends").code(),
            Some(0),
            "{signal}"
        );
    }
}

#[test]
fn a_hangup_cuts_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut running = Running::start(folder.path(), PUBLISH);
    running.signal("-HUP");
    // By the time that it has ended in order it has seen both.
    running.signal("-TERM");
    assert_eq!(running.child.wait().expect("ends").code(), Some(0));
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut running = Running::start(folder.path(), &PUBLISH.replace("1s", "10m"));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(&running.address).expect("connects");
        stream
            .write_all(b"GET /a HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n")
            .expect("sent");
        let mut begin = [0; 1];
        stream.read_exact(&mut begin).expect("an answer");
        streams.push(stream);
    }
    running.signal("-INT");
    // The first stream of the window ends at once: by then the first signal has been seen.
    let mut all = Vec::new();
    for stream in &mut streams {
        stream.set_nonblocking(true).expect("a socket");
    }
    'seen: loop {
        for stream in &mut streams {
            let _ = stream.read_to_end(&mut all);
            if String::from_utf8_lossy(&all).contains("closing") {
                break 'seen;
            }
        }
    }
    running.signal("-INT");
    assert_eq!(running.child.wait().expect("ends").code(), Some(0));
}

/// CONTRACT §1 `health`, §4: the port of the admin listener, and who asks there.
#[test]
fn health_asks_the_admin_listener() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody else has it between this and the start.
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("bound");
    let file = PUBLISH.replace("admin: off", &format!("admin: {{address: \"{free}\"}}"));
    let health = || {
        command(&["health"])
            .current_dir(folder.path())
            .output()
            .expect("runs")
    };
    assert_eq!(health().status.code(), Some(1), "there is no file");
    let mut running = Running::start(folder.path(), &file);
    let well = health();
    assert_eq!(
        well.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&well.stderr)
    );
    assert_eq!(well.stdout, format!("{free}/livez: ok\n").as_bytes());
    // A second gateway that names the same port does not start; `health` of one without says why.
    let other = tempfile::tempdir().expect("a folder");
    fs::write(other.path().join("wellspring.yaml"), &file).expect("written");
    let second = command(&["run"])
        .current_dir(other.path())
        .output()
        .expect("runs");
    assert_eq!(second.status.code(), Some(69));
    fs::write(other.path().join("wellspring.yaml"), PUBLISH).expect("written");
    let off = command(&["health"])
        .current_dir(other.path())
        .output()
        .expect("runs");
    assert_eq!(off.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&off.stderr).contains("admin: off"));
    running.signal("-TERM");
    assert_eq!(running.child.wait().expect("ends").code(), Some(0));
    assert_eq!(health().status.code(), Some(1), "nobody listens");
}

/// EDGE O6, O8, A10: one line a request, two a stream, without queries and headers, in text and in JSON.
#[test]
fn the_access_log_tells_what_was_asked_and_no_secret() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("wellspring.yaml"), PUBLISH).expect("written");
        let mut child = command(&["run", "--log-format", format])
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut line = |part: &str| loop {
            let line = lines.next().expect("another line").expect("text");
            assert!(
                !line.contains("canary") && !line.contains('\u{1b}'),
                "{line}"
            );
            if line.contains(part) {
                break line;
            }
        };
        let listening = line("listening");
        let port = listening.rsplit("127.0.0.1:").next().expect("a port");
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
        let long = "x".repeat(1000);
        client
            .write_all(format!("GET /{long}?key=canary HTTP/1.1\r\nhost: x\r\nauthorization: canary\r\nx-request-id: mine\r\n\r\n").as_bytes())
            .expect("sent");
        let asked = line("not_found");
        for part in ["404", "GET", "127.0.0.1", "mine", "HTTP/1.1", "…"] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
        assert!(asked.len() < 700, "{asked}");
        if format == "json" {
            let record: serde_json::Value = serde_json::from_str(&asked).expect("JSON");
            assert_eq!(
                (&record["status"], &record["target"]),
                (&404.into(), &"access".into())
            );
        }
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connects");
        stream
            .write_all(b"GET /a?lastEventId=canary HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\ncookie: canary\r\n\r\n")
            .expect("sent");
        let opened = line("stream opened");
        assert!(opened.contains("/a") && !opened.contains('?'), "{opened}");
        drop(stream);
        let ended = line("stream ended");
        for part in ["client-left", "events", "bytes", "ms"] {
            assert!(ended.contains(part), "{part}: {ended}");
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}
