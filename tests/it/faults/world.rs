//! The parts that fail, and how they are made to: the real gateway in processes of its own, a real Redis server, a legacy API.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::task::{JoinHandle, block_in_place};

use super::super::support::client::get;
use super::super::support::eventually;
use super::super::support::process::program;
use super::super::support::redis::{TestRedis, free_port};
use super::super::support::upstream::TestUpstream;
use super::oracle::{CALM_EVERY, Oracle, Upheaval};
use super::schedule::{Edit, Mood, Step};
use super::sources::Sources;

pub struct World {
    pub oracle: Arc<Oracle>,
    pub sources: Arc<Sources>,
    folder: TempDir,
    /// One, or several that share their channels.
    replicas: Vec<Replica>,
    /// Which of them is next to be done something to.
    turn: usize,
    upstream: TestUpstream,
    redis: TestRedis,
    file: File,
    writers: Vec<JoinHandle<()>>,
}

struct Replica {
    address: SocketAddr,
    admin: SocketAddr,
    /// `None`: it is dead.
    gateway: Option<Gateway>,
}

/// What of the configuration changes.
#[derive(Clone, Copy, Debug, Default)]
struct File {
    limits: u32,
    stream: u32,
}

/// What the serving process has of the system's.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub pid: u32,
    pub descriptors: usize,
    pub threads: u64,
    /// KiB.
    pub memory: u64,
}

impl World {
    pub async fn start(replicas: usize) -> Self {
        let oracle = Arc::new(Oracle::of(replicas));
        let sources = Arc::new(Sources::default());
        let answering = sources.clone();
        let upstream = TestUpstream::start(move |request| answering.answer(request)).await;
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let replica = |_| Replica {
            address: loopback(free_port()),
            admin: loopback(free_port()),
            gateway: None,
        };
        let mut world = Self {
            folder: tempfile::tempdir().expect("a folder"),
            replicas: (0..replicas).map(replica).collect(),
            turn: 0,
            upstream,
            redis: TestRedis::start(),
            file: File::default(),
            writers: Vec::new(),
            oracle,
            sources,
        };
        for index in 0..replicas {
            world.start_gateway(index).await;
        }
        let port = world.redis.port();
        world.writers = world.sources.change(world.addresses(), port, &world.oracle);
        world
    }

    /// Where clients may connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas
            .iter()
            .map(|replica| replica.address)
            .collect()
    }

    pub async fn step(&mut self, step: Step) {
        match step {
            Step::Upstream(mood) => self.sources.set_mood(mood),
            Step::UpstreamDies => self.upstream.die(),
            Step::UpstreamReturns => self.upstream.rise().await,
            Step::RedisDies => {
                self.oracle.upheaval(Upheaval::Redis);
                block_in_place(|| self.redis.kill());
            }
            Step::RedisReturns => {
                block_in_place(|| self.redis.restart());
                self.oracle.upheaval(Upheaval::Redis);
            }
            Step::RedisFreezes => {
                self.oracle.upheaval(Upheaval::Redis);
                block_in_place(|| self.redis.pause());
            }
            Step::RedisThaws => {
                self.redis.resume();
                self.oracle.upheaval(Upheaval::Redis);
            }
            Step::RedisForgets => {
                self.oracle.upheaval(Upheaval::Oblivion);
                block_in_place(|| self.redis.cli(&["FLUSHALL"]));
                self.oracle.upheaval(Upheaval::Oblivion);
            }
            Step::GatewayDies => {
                let index = self.next();
                self.oracle.is_down[index].store(true, Ordering::SeqCst);
                if let Some(gateway) = self.replicas[index].gateway.take() {
                    gateway.kill().await;
                    self.oracle.upheaval(Upheaval::Death);
                }
            }
            Step::GatewayReturns => {
                for index in 0..self.replicas.len() {
                    if self.replicas[index].gateway.is_none() {
                        self.write(self.file);
                        self.start_gateway(index).await;
                        self.oracle.is_down[index].store(false, Ordering::SeqCst);
                    }
                }
            }
            Step::GatewayUpgrades => {
                self.oracle.upheaval(Upheaval::Upgrade);
                let index = self.next();
                self.signal(index, "-USR2");
            }
            Step::GatewayReloads(edit) => self.reload(edit),
            // Clients are not of this world.
            Step::ClientsVanish(_) | Step::ClientsStall(_) | Step::Storm(_) => {}
        }
    }

    /// Whatever may still be broken is whole.
    pub async fn heal(&mut self) {
        self.sources.set_mood(Mood::Well);
        self.step(Step::GatewayReturns).await;
    }

    /// What the serving process of each replica holds.
    pub fn held(&self) -> Vec<Held> {
        (0..self.replicas.len())
            .map(|index| self.held_by(index))
            .collect()
    }

    fn held_by(&self, index: usize) -> Held {
        let pid = self.pid(index);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.expect("a number")
        };
        Held {
            pid,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("it runs")
                .count(),
            threads: number("Threads:"),
            memory: number("VmRSS:"),
        }
    }

    /// The sum of a metric over its labels and all replicas.
    pub async fn metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for replica in &self.replicas {
            let metrics = get(replica.admin, "/metrics", &["connection: close"])
                .await
                .body;
            let lines = metrics.lines().filter(|line| {
                let rest = line.strip_prefix(name);
                rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            sum += lines
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum::<f64>();
        }
        sum
    }

    /// The last that the gateways said.
    pub fn said(&self) -> Vec<String> {
        let gateways = self
            .replicas
            .iter()
            .filter_map(|replica| replica.gateway.as_ref());
        gateways
            .flat_map(|gateway| gateway.said.lock().clone())
            .collect()
    }

    fn pid(&self, index: usize) -> u32 {
        let gateway = self.replicas[index].gateway.as_ref().expect("it runs");
        gateway.serving.load(Ordering::SeqCst)
    }

    fn signal(&self, index: usize, name: &str) {
        if self.replicas[index].gateway.is_some() {
            send(name, &self.pid(index).to_string());
        }
    }

    fn next(&mut self) -> usize {
        self.turn += 1;
        self.turn % self.replicas.len()
    }

    fn reload(&mut self, edit: Edit) {
        match edit {
            Edit::Limits => self.file.limits += 1,
            Edit::Stream => {
                self.file.stream += 1;
                self.oracle.upheaval(Upheaval::Redefinition);
            }
            Edit::Broken => {}
        }
        match edit {
            Edit::Broken => {
                (0..self.replicas.len()).for_each(|index| self.put(index, "listeners: nowhere\n"))
            }
            Edit::Limits | Edit::Stream => self.write(self.file),
        }
        (0..self.replicas.len()).for_each(|index| self.signal(index, "-HUP"));
    }

    fn write(&self, file: File) {
        (0..self.replicas.len()).for_each(|index| self.write_of(index, file));
    }

    fn write_of(&self, index: usize, file: File) {
        let File { limits, stream } = file;
        let Replica { address, admin, .. } = &self.replicas[index];
        let (cluster, server) = match self.replicas.len() {
            1 => ("null", "null"),
            _ => ("{redis: main, name: faults}", "main"),
        };
        let (upstream, redis) = (self.upstream.url(), self.redis.url());
        let every_stream =
            "history: {events: 5000, bytes: 64MiB, age: 20s}, heartbeat: 1s, linger: 3s";
        let forms = format!("deliver: [value, json-patch, merge-patch], {every_stream}");
        let text = format!(
            "listeners: [{{address: \"{address}\"}}]\nadmin: {{address: \"{admin}\"}}\n\
             upstreams:\n  legacy:\n    url: \"{upstream}\"\n    timeouts: {{connect: 300ms, first_byte: 400ms, total: 800ms}}\n\
             redis: {{main: {{url: \"{redis}\"}}}}\n\
             limits: {{connects: 1000000/s, streams_per_client: 1000000, write_stall: 30s, header_timeout: {header}s}}\n\
             cluster: {cluster}\n\
             shutdown: {{drain: 1s, retry: [1s, 2s]}}\n\
             streams:\n\
             \x20 - {{path: /polled, http: {{upstream: legacy}}, every: 50ms, {forms}}}\n\
             \x20 - {{path: /calm, http: {{upstream: legacy}}, every: {calm}ms, {forms}}}\n\
             \x20 - {{path: /large, http: {{upstream: legacy}}, every: 50ms, {forms}}}\n\
             \x20 - {{path: /keyed, redis: {{server: main, key: \"faults:key\"}}, every: {every}ms, {forms}}}\n\
             \x20 - {{path: /messages, redis: {{server: main, channel: \"faults:messages\"}}, {every_stream}}}\n\
             \x20 - {{path: /posted, publish: {{path: /publish/posted, server: {server}}}, {forms}}}\n",
            header = 10 + limits % 5,
            every = 1000 + stream,
            calm = CALM_EVERY.as_millis(),
        );
        self.put(index, &text);
    }

    /// At once, so that nobody reads half of it.
    fn put(&self, index: usize, text: &str) {
        let file = self.folder.path().join(format!("{index}.yaml"));
        let new = self.folder.path().join("new");
        fs::write(&new, text).expect("written");
        fs::rename(new, file).expect("renamed");
    }

    async fn start_gateway(&mut self, index: usize) {
        self.write(self.file);
        // Its port may be another's for a moment: that of a connection that somebody opened.
        for _ in 0..20 {
            if let Some(gateway) = Gateway::start(&self.folder, index, &self.oracle).await {
                self.replicas[index].gateway = Some(gateway);
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the gateway does not start");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
        for replica in &self.replicas {
            if let Some(gateway) = &replica.gateway {
                send("-KILL", &format!("-{}", gateway.group));
            }
        }
    }
}

/// A gateway's processes: the first one and its successors.
struct Gateway {
    child: Child,
    group: u32,
    /// Whom signals go to.
    serving: Arc<AtomicU32>,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl Gateway {
    /// `None`: it ended.
    async fn start(folder: &TempDir, index: usize, oracle: &Arc<Oracle>) -> Option<Self> {
        let mut command = program(env!("CARGO_BIN_EXE_wellspring"));
        command
            .args(["run", "--config", &format!("{index}.yaml")])
            .current_dir(folder.path())
            .env("WELLSPRING_LOG", "info,access=warn")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let group = child.id().expect("it runs");
        let (serving, said) = (Arc::new(AtomicU32::new(group)), Arc::default());
        let listening = Arc::new(AtomicUsize::new(0));
        let stderr = child.stderr.take().expect("piped");
        tokio::spawn(listen(
            stderr,
            serving.clone(),
            Arc::clone(&said),
            listening.clone(),
            oracle.clone(),
        ));
        let mut has_ended = false;
        eventually("the gateway listens, or ends", || {
            has_ended = child.try_wait().is_ok_and(|status| status.is_some());
            has_ended || listening.load(Ordering::SeqCst) == 2
        })
        .await;
        if has_ended {
            let said = said.lock().clone();
            eprintln!("the gateway ended: {said:#?}");
        }
        (!has_ended).then_some(Self {
            child,
            group,
            serving,
            said,
        })
    }

    /// Ends all of its processes, and waits until they are gone.
    async fn kill(mut self) {
        let group = format!("-{}", self.group);
        send("-KILL", &group);
        let _ = self.child.wait().await;
        let last = self.serving.load(Ordering::SeqCst);
        // Whose parent is gone is somebody else's to be waited for.
        let is_gone = || {
            let stat = fs::read_to_string(format!("/proc/{last}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z") || stat.contains(") X"))
        };
        eventually("its processes are gone", is_gone).await;
    }
}

/// Keeps what it says, and learns from it who serves.
async fn listen(
    from: impl AsyncRead + Unpin,
    serving: Arc<AtomicU32>,
    said: Arc<Mutex<VecDeque<String>>>,
    listening: Arc<AtomicUsize>,
    oracle: Arc<Oracle>,
) {
    let mut lines = BufReader::new(from).lines();
    let mut successor = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((_, rest)) = line.split_once("successor started pid=") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            successor = digits.parse().unwrap_or(0);
        }
        if line.contains("the successor serves") {
            serving.store(successor, Ordering::SeqCst);
            oracle.upheaval(Upheaval::Upgrade);
        }
        if line.contains("reloaded streams=") {
            oracle.upheaval(Upheaval::Redefinition);
        }
        if line.contains("listening address=") {
            listening.fetch_add(1, Ordering::SeqCst);
        }
        let mut said = said.lock();
        if said.len() == 200 {
            said.pop_front();
        }
        said.push_back(line);
    }
}

fn send(signal: &str, to: &str) {
    let mut kill = std::process::Command::new("kill");
    let _ = kill.args([signal, "--", to]).stderr(Stdio::null()).status();
}
