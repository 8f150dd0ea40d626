//! Everything fails, in an order that a seed gives: the legacy API, Redis, clients and the gateway itself. Whatever happens,
//! nobody is given anything twice or out of order, nothing is left out that was promised, and in the end everybody has what
//! the source has (EDGE L8–L10, L15, B1–B3, R6, O5, Q10, Q12).
//!
//! A run that fails prints its seed and its schedule; `WELLSPRING_FAULTS_SEED=N` runs that one again. `make soak` runs many seeds,
//! longer, with ten thousand clients.

mod client;
mod oracle;
mod schedule;
mod sources;
mod world;

use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use client::Client;
use oracle::{CALM_EVERY, Subject};
use schedule::{Bounds, Schedule, Step};
use world::{Held, World};

/// Within which everybody has what the source has, once everything is well again: a source that failed often is left alone for a
/// minute, give or take a fifth.
const CONVERGES: Duration = Duration::from_secs(75);

/// Within which what clients held is given back, once they have left.
const GIVEN_BACK: Duration = Duration::from_secs(20);

/// Within which a process is at rest: logs are kept for a while after the last reader, and the allocator gives memory back.
const AT_REST: Duration = Duration::from_secs(60);

/// Who is there from the beginning.
const STEADY: [(Subject, &str, usize); 10] = [
    (Subject::Polled, "value", 6),
    (Subject::Polled, "json-patch", 6),
    (Subject::Polled, "merge-patch", 6),
    (Subject::Keyed, "value", 6),
    (Subject::Keyed, "json-patch", 6),
    (Subject::Messages, "value", 6),
    (Subject::Posted, "value", 6),
    (Subject::Posted, "merge-patch", 6),
    (Subject::Large, "value", 2),
    (Subject::Large, "json-patch", 2),
];

/// One run: faults by a schedule, then peace.
struct Run {
    world: World,
    clients: Vec<Client>,
    started: usize,
}

impl Run {
    async fn start(replicas: usize) -> Self {
        Self {
            world: World::start(replicas).await,
            clients: Vec::new(),
            started: 0,
        }
    }

    /// Faults, then peace; tells what was seen. Panics with the schedule when something was seen that must not be.
    async fn round(&mut self, schedule: &Schedule) {
        self.world.sources.rest(false);
        for (subject, form, count) in STEADY {
            self.admit(subject, form, count);
        }
        let (start, polls) = (tokio::time::Instant::now(), self.world.sources.calm_polls());
        for (at, step) in &schedule.steps {
            sleep_until(start + *at).await;
            self.step(*step).await;
        }
        sleep_until(start + schedule.length).await;
        self.world.heal().await;
        self.world.sources.rest(true);
        let lag = self.converge().await;
        self.bound_polls(self.world.sources.calm_polls() - polls, start.elapsed());
        let mut faults = self.world.oracle.faults();
        faults.extend(self.laggards());
        if !faults.is_empty() {
            let said = self.world.said().join("\n  ");
            let faults = faults.join("\n  ");
            panic!("{schedule}\nwhat must not be:\n  {faults}\nthe gateway said:\n  {said}");
        }
        eprintln!(
            "seed {}: {} faults, {} clients, converged in {lag:?}",
            schedule.seed,
            schedule.steps.len(),
            self.clients.len(),
        );
    }

    fn admit(&mut self, subject: Subject, form: &'static str, count: usize) {
        for _ in 0..count {
            self.started += 1;
            let oracle = self.world.oracle.clone();
            let client = Client::start(self.started, self.world.addresses(), subject, form, oracle);
            self.clients.push(client);
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::ClientsVanish(percent) => {
                for (number, client) in self.clients.iter().enumerate() {
                    // Spread over all subjects, and the same ones each time.
                    if number * 37 % 100 < usize::from(percent) {
                        client.orders.send_modify(|orders| orders.vanish += 1);
                    }
                }
            }
            Step::ClientsStall(milliseconds) => {
                let stalls = self
                    .clients
                    .iter()
                    .filter(|client| client.subject.may_skip());
                let time = Duration::from_millis(milliseconds.into());
                stalls.for_each(|client| {
                    client
                        .orders
                        .send_modify(|orders| orders.stall = (orders.stall.0 + 1, time));
                });
            }
            Step::Storm(count) => self.admit(Subject::Calm, "value", count.into()),
            step => self.world.step(step).await,
        }
    }

    /// However many clients came and went, a process polled once an interval.
    fn bound_polls(&self, polls: u64, time: Duration) {
        let processes = self.world.oracle.processes() as u64;
        let bound = time.as_millis() as u64 / CALM_EVERY.as_millis() as u64 * 5 / 4 + 8 * processes;
        if polls > bound {
            let fault = format!("{polls} polls in {time:?}, of {processes} processes");
            self.world.oracle.fault(fault);
        }
    }

    /// Who does not have what the source has.
    fn laggards(&self) -> Vec<String> {
        let lags = self.clients.iter().filter_map(|client| {
            let fold = client.fold.lock();
            let n = self.world.sources.number(client.subject);
            let has = fold.state.as_ref() == Some(&client.subject.document(n));
            (!has || fold.is_stale).then(|| format!("the source has {n}: {fold}"))
        });
        lags.take(20).collect()
    }

    /// Waits until nobody lags, for a while; how long it took.
    async fn converge(&self) -> Duration {
        let began = Instant::now();
        loop {
            let looked = Instant::now();
            if self.laggards().is_empty() || began.elapsed() > CONVERGES {
                break;
            }
            // Looking at ten thousand takes a while, in which clients and sources of this process stand still.
            sleep(Duration::from_millis(20).max(looked.elapsed() * 9)).await;
        }
        began.elapsed()
    }

    /// Everybody leaves, and everything that was held for them is given back.
    async fn leave(&mut self) {
        for client in &self.clients {
            client.orders.send_modify(|orders| orders.leave = true);
        }
        for client in self.clients.drain(..) {
            client.leave().await;
        }
        let deadline = Instant::now() + GIVEN_BACK;
        loop {
            let open = self.world.metric("wellspring_streams_open").await;
            // Those that ask.
            let connections = self.world.metric("wellspring_connections_open").await;
            let held = self.world.held();
            let are_few = held.iter().all(|held| held.descriptors < 40);
            if open == 0.0 && connections <= held.len() as f64 && are_few {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{open} streams, {connections} connections, {held:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the process, the only one, holds no more than at the `baseline`; what it holds then.
    async fn at_rest(&self, baseline: Option<Held>) -> Held {
        let deadline = Instant::now() + AT_REST;
        loop {
            // What was published last is kept for whoever comes.
            let channels = self.world.metric("wellspring_channels").await;
            let held = self.world.held()[0];
            let is_back = baseline.is_none_or(|baseline| {
                held.pid == baseline.pid
                    && held.descriptors <= baseline.descriptors + 4
                    && held.threads <= baseline.threads + 4
                    && held.memory <= baseline.memory * 5 / 4 + 8 * 1024
            });
            if channels <= 1.0 && is_back {
                return held;
            }
            assert!(
                Instant::now() < deadline,
                "{channels} channels, {held:?}, at first {baseline:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn run(seed: u64, replicas: usize) {
    let seed = variable("SEED").unwrap_or(seed);
    let bounds = Bounds {
        length: Duration::from_secs(8),
        storm: 300,
        gateway_ends: true,
    };
    let mut run = Run::start(replicas).await;
    run.round(&Schedule::of(seed, bounds)).await;
    run.leave().await;
    eprintln!("  {:?}", run.world.oracle.counts());
}

/// A number that `WELLSPRING_FAULTS_NAME` gives.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(format!("WELLSPRING_FAULTS_{name}")).ok()?;
    Some(text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_1() {
    run(1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_2() {
    run(2, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_3() {
    run(3, 1).await;
}

/// Two replicas: what they share outlives each of them.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_seed_4() {
    run(4, 2).await;
}

/// Seed after seed: worlds of their own in which everything may end, then as many rounds of one gateway whose process stays, which
/// gives back its descriptors, threads and memory each time everybody leaves.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "as long as it is told to: `make soak`"]
async fn soak() {
    let half = Duration::from_secs(60 * variable("MINUTES").unwrap_or(30)) / 2;
    let storm = variable("STORM").unwrap_or(10_000);
    let mut seed = variable("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut bounds = Bounds {
        length: Duration::from_secs(variable("SECONDS").unwrap_or(20)),
        storm: u16::try_from(storm).expect("a storm has ports for each client"),
        gateway_ends: true,
    };
    let began = Instant::now();
    while began.elapsed() < half {
        let mut run = Run::start(1 + usize::from(seed.is_multiple_of(2))).await;
        run.round(&Schedule::of(seed, bounds)).await;
        run.leave().await;
        eprintln!("  {:?}", run.world.oracle.counts());
        seed += 1;
    }
    bounds.gateway_ends = false;
    let began = Instant::now();
    let mut run = Run::start(1).await;
    let mut baseline = None;
    let mut rounds = 0;
    while rounds < 3 || began.elapsed() < half {
        run.round(&Schedule::of(seed, bounds)).await;
        run.leave().await;
        let held = run.at_rest(baseline).await;
        eprintln!("  at rest: {held:?}");
        // The first round fills what is kept for the next ones.
        baseline = baseline.or(Some(held));
        rounds += 1;
        seed += 1;
    }
    eprintln!("  {:?}", run.world.oracle.counts());
}
