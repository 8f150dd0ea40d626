//! A real `redis-server` for tests: started on a free port, ended by `Drop`, and made to fail on purpose.

#![allow(dead_code, reason = "each user needs a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A Redis server of a test's own, reachable by TCP on loopback and by a Unix socket.
#[derive(Debug)]
pub(crate) struct TestRedis {
    directory: TempDir,
    port: u16,
    args: Vec<String>,
    server: Child,
}

impl TestRedis {
    /// Starts an empty server that keeps nothing on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further command line arguments, such as `["--maxmemory", "1mb"]`.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        Self::start_as(None, args)
    }

    /// The same with a configuration file, into which the server may write.
    pub(crate) fn start_as(config: Option<&str>, args: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        if let Some(config) = config {
            fs::write(file(directory.path()), config).expect("a file");
        }
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        // Between asking for a free port and the server's bind another process may take it.
        for _ in 0..10 {
            let port = free_port();
            if let Some(server) = spawn(directory.path(), port, &args) {
                return Self {
                    directory,
                    port,
                    args,
                    server,
                };
            }
        }
        panic!("redis-server does not start with {args:?}");
    }

    /// The TCP port on 127.0.0.1; stays the same over restarts.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `redis://` over TCP, without user and password.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Makes a user with these rights, as `ACL SETUSER` takes them, and nothing besides; gives `redis://` with his password.
    pub(crate) fn user(&self, name: &str, rights: &str) -> String {
        let mut command = vec!["ACL", "SETUSER", name, "on", ">secret"];
        command.extend(rights.split_whitespace());
        self.cli(&command);
        format!("redis://{name}:secret@127.0.0.1:{}", self.port)
    }

    /// `redis+unix://`, without user and password.
    pub(crate) fn unix_url(&self) -> String {
        format!("redis+unix://{}", socket(self.directory.path()).display())
    }

    /// Ends the server at once, as a crash would. Connections to it break.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("the server can be killed");
        self.server.wait().expect("the server ends");
    }

    /// Kills the server, if it still lives, and starts an empty one on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(server) = spawn(self.directory.path(), self.port, &self.args) {
                self.server = server;
                return;
            }
            assert!(
                Instant::now() < deadline,
                "redis-server does not start again"
            );
        }
    }

    /// Freezes the server (SIGSTOP): connections stay open, and nothing answers.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.server.id());
        let stopped = || {
            let text = fs::read_to_string(&stat).expect("the server lives");
            text.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        wait_until("the server is frozen", stopped);
    }

    /// Lets a frozen server go on (SIGCONT).
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Runs one command and gives its answer as text: strings and numbers as they are, nil as `(nil)`,
    /// elements of an array on lines of their own.
    ///
    /// # Panics
    ///
    /// When the server answers with an error.
    pub(crate) fn cli(&self, command: &[&str]) -> String {
        self.try_cli(command)
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// The same, with an error as it is.
    pub(crate) fn try_cli(&self, command: &[&str]) -> Answer {
        self.connection().run(command)
    }

    /// As [`cli`](Self::cli), at the node of a cluster that is about to take over the key.
    pub(crate) fn cli_asking(&self, command: &[&str]) -> String {
        let mut connection = self.connection();
        connection.run(&["ASKING"]).expect("a node of a cluster");
        let answer = connection.run(command);
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    fn connection(&self) -> Connection {
        let password = self
            .args
            .iter()
            .skip_while(|arg| *arg != "--requirepass")
            .nth(1);
        let mut connection =
            Connection::open(&socket(self.directory.path())).expect("the server answers");
        if let Some(password) = password {
            connection
                .run(&["AUTH", password])
                .expect("the password is right");
        }
        connection
    }

    fn signal(&self, signal: &str) {
        let id = self.server.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill runs").success(), "kill {signal} {id}");
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        // A process that ended already is what is wanted.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A port on which nobody listened a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Polls `condition` until it holds.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("redis.sock")
}

fn file(directory: &Path) -> PathBuf {
    directory.join("redis.conf")
}

/// `None` when the server ended before it answered, such as when its port was taken.
fn spawn(directory: &Path, port: u16, args: &[String]) -> Option<Child> {
    let socket = socket(directory);
    // A killed server leaves its socket behind, to which nothing answers.
    let _ = fs::remove_file(&socket);
    let log = fs::File::create(directory.join("log")).expect("a log file");
    let config = Some(file(directory)).filter(|file| file.exists());
    let mut server = Command::new("redis-server")
        .args(config)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .arg("--unixsocket")
        .arg(&socket)
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(directory)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if server.try_wait().expect("a child's state").is_some() {
            return None;
        }
        // An error is an answer as well: the server may want a password first.
        if Connection::open(&socket)
            .is_ok_and(|mut connection| connection.answer_to(&["PING"]).is_ok())
        {
            return Some(server);
        }
        assert!(Instant::now() < deadline, "redis-server does not answer");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The little of RESP that tests need, so that the code under test is not its own witness.
struct Connection(BufReader<UnixStream>);

pub(crate) type Answer = Result<String, String>;

impl Connection {
    fn open(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn run(&mut self, command: &[&str]) -> Answer {
        self.answer_to(command).map_err(|error| error.to_string())?
    }

    fn answer_to(&mut self, command: &[&str]) -> std::io::Result<Answer> {
        let mut request = format!("*{}\r\n", command.len());
        for arg in command {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        self.read_answer()
    }

    fn read_answer(&mut self) -> std::io::Result<Answer> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at(1);
        let count: i64 = rest.parse().unwrap_or(-1);
        match kind {
            "-" => Ok(Err(rest.to_owned())),
            "$" | "*" if count < 0 => Ok(Ok("(nil)".to_owned())),
            "$" => {
                let mut bytes = vec![0; count as usize + 2];
                self.0.read_exact(&mut bytes)?;
                bytes.truncate(count as usize);
                Ok(Ok(String::from_utf8_lossy(&bytes).into_owned()))
            }
            "*" => {
                let mut elements = Vec::new();
                for _ in 0..count {
                    match self.read_answer()? {
                        Ok(element) => elements.push(element),
                        Err(error) => return Ok(Err(error)),
                    }
                }
                Ok(Ok(elements.join("\n")))
            }
            _ => Ok(Ok(rest.to_owned())),
        }
    }
}
