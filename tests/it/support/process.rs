//! Real programs: each in a process group of its own, which `Drop` kills; what they print is waited for, line by line.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{PATIENCE, soon};

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    group: u32,
    /// Whom signals go to.
    pid: u32,
    lines: UnboundedReceiver<String>,
    said: Vec<String>,
}

impl Process {
    /// Starts it; what it prints on either stream is for [`Process::line`].
    pub fn start(command: &mut Command) -> Self {
        let name = command
            .as_std()
            .get_program()
            .to_string_lossy()
            .into_owned();
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                panic!("{name} is missing: `make test` installs what tests need")
            }
            _ => panic!("{name} does not start: {error}"),
        });
        let (sender, lines) = unbounded_channel();
        forward(child.stdout.take().expect("piped"), sender.clone());
        forward(child.stderr.take().expect("piped"), sender);
        let group = child.id().expect("it runs");
        Self {
            name,
            child,
            group,
            pid: group,
            lines,
            said: Vec::new(),
        }
    }

    /// The next line that holds `part`.
    pub async fn line(&mut self, part: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(line)) => {
                    self.said.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Ok(None) => panic!("{} ended without `{part}`", self.name),
                Err(_) => panic!("{} never said `{part}`", self.name),
            }
        }
    }

    /// Where it says that it listens next.
    pub async fn address(&mut self) -> SocketAddr {
        let line = self.line("address=").await;
        let (_, address) = line.rsplit_once("address=").expect("an address");
        address.trim().parse().expect("an address")
    }

    /// The next line, or `None` when the program has ended.
    pub async fn try_line(&mut self) -> Option<String> {
        let line = self.lines.recv().await?;
        self.said.push(line.clone());
        Some(line)
    }

    /// The next line, whatever it is.
    pub async fn next_line(&mut self) -> String {
        self.line("").await
    }

    /// Ends it in order, and gives every line that it ever said.
    pub async fn finish(mut self) -> Vec<String> {
        signal("-TERM", &self.group.to_string());
        soon("it ends", self.child.wait())
            .await
            .expect("it was waited for");
        while let Some(line) = soon("the end of what it says", self.lines.recv()).await {
            self.said.push(line);
        }
        std::mem::take(&mut self.said)
    }

    /// Sends it a signal, such as `-HUP`.
    pub fn signal(&self, name: &str) {
        assert!(signal(name, &self.pid.to_string()), "it runs");
    }

    /// Another process of the group is meant from now on.
    pub fn becomes(&mut self, pid: u32) {
        self.pid = pid;
    }

    /// Waits until it has ended by itself; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = soon("it ends", self.child.wait()).await;
        status.expect("it was waited for").code()
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub async fn stop(mut self) {
        signal("-TERM", &self.group.to_string());
        soon("it ends", self.child.wait())
            .await
            .expect("it was waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = format!("-{}", self.group);
        signal("-KILL", &group);
        let _ = self.child.try_wait();
        // Until its members are gone they may write into a folder that is deleted next.
        let deadline = Instant::now() + Duration::from_secs(2);
        while signal("-0", &group) && Instant::now() < deadline {
            let _ = self.child.try_wait();
            std::thread::sleep(Duration::from_millis(5));
        }
        // Why a test failed is often in what the programs said.
        if std::thread::panicking() {
            while let Ok(line) = self.lines.try_recv() {
                self.said.push(line);
            }
            eprintln!("{} said: {:#?}", self.name, self.said);
        }
    }
}

/// The gateway's binary on an example's own file.
#[derive(Debug)]
pub struct Wellspring {
    pub address: SocketAddr,
    process: Process,
    _file: Option<tempfile::NamedTempFile>,
}

impl Wellspring {
    /// `wellspring run` in the folder of the scene, on a free port, with these variables.
    pub async fn run(scene: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
        command
            .arg("run")
            .current_dir(example(scene))
            .env("PORT", "0")
            .envs(variables.iter().copied());
        Self::start(&mut command, None).await
    }

    /// `wellspring run` on this file.
    pub async fn with(file: &str) -> Self {
        Self::with_variables(file, &[]).await
    }

    /// The same with these variables.
    pub async fn with_variables(file: &str, variables: &[(&str, &OsStr)]) -> Self {
        let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
        command.arg("run").envs(variables.iter().copied());
        Self::on(file, command).await
    }

    /// The same in a network namespace.
    pub async fn within(namespace: &str, file: &str) -> Self {
        let mut command = program("ip");
        command
            .args(["netns", "exec", namespace])
            .args([env!("CARGO_BIN_EXE_wellspring"), "run"]);
        Self::on(file, command).await
    }

    /// What a command that runs the gateway makes of this file.
    async fn on(file: &str, mut command: Command) -> Self {
        let config = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(config.path(), file).expect("written");
        command.arg("--config").arg(config.path());
        Self::start(&mut command, Some(config)).await
    }

    async fn start(command: &mut Command, file: Option<tempfile::NamedTempFile>) -> Self {
        let mut process = Process::start(command);
        Self {
            address: process.address().await,
            process,
            _file: file,
        }
    }

    /// Resident memory, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.group));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        size.expect("a size")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

/// `wellspring run` on `wellspring.yaml` in this folder, with these arguments; and where it listens.
pub async fn run_in(folder: &Path, more: &[&str]) -> (Process, SocketAddr) {
    let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
    command
        .args(["run", "--config", "wellspring.yaml"])
        .args(more)
        .current_dir(folder);
    let mut process = Process::start(&mut command);
    let address = process.address().await;
    (process, address)
}

/// The folder of an example.
pub fn example(scene: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(scene)
}

/// Python with the packages that `tests/setup` installs.
pub fn python() -> Command {
    program(installed("venv/bin/python"))
}

/// A file under `.test/`.
pub fn installed(path: &str) -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join(".test");
    let path = std::env::var_os("WELLSPRING_TEST_DIR")
        .map_or_else(default, PathBuf::from)
        .join(path);
    assert!(
        path.exists(),
        "{} is missing: `make test` installs what tests need",
        path.display()
    );
    path
}

/// A program that talks to loopback and to nothing else. What a gateway is told by the environment is the test's to say.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command
        .env("NO_PROXY", "*")
        .env("no_proxy", "*")
        .env("PYTHONUNBUFFERED", "1")
        .env("NO_COLOR", "1")
        .env_remove("WELLSPRING_CONFIG")
        .env_remove("WELLSPRING_LOG")
        .kill_on_drop(true);
    command
}

fn forward(from: impl AsyncRead + Unpin + Send + 'static, to: UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Nobody listens any more once the test is over.
            let _ = to.send(line);
        }
    });
}

fn signal(signal: &str, to: &str) -> bool {
    let kill = std::process::Command::new("kill")
        .args([signal, "--", to])
        .stderr(Stdio::null())
        .status();
    kill.is_ok_and(|status| status.success())
}
