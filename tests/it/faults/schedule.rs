//! What goes wrong and when: a function of the seed alone.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// A run's faults, in order of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub seed: u64,
    pub length: Duration,
    /// From the start.
    pub steps: Vec<(Duration, Step)>,
}

/// Something that is done to a part of the world. Whatever begins ends within the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The legacy API answers so from now on.
    Upstream(Mood),
    /// Its process is gone: connections break, new ones are refused.
    UpstreamDies,
    UpstreamReturns,
    RedisDies,
    /// Empty.
    RedisReturns,
    RedisFreezes,
    RedisThaws,
    /// Every key is gone.
    RedisForgets,
    /// So many of a hundred clients lose their connection without a word.
    ClientsVanish(u8),
    /// Those that can read nothing for so many milliseconds.
    ClientsStall(u16),
    /// So many new clients come at once.
    Storm(u16),
    /// SIGKILL, to all of its processes.
    GatewayDies,
    GatewayReturns,
    /// SIGUSR2.
    GatewayUpgrades,
    /// SIGHUP after the file was changed.
    GatewayReloads(Edit),
}

/// How the legacy API answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    Well,
    /// Not at all.
    Hangs,
    /// By closing the connection.
    Closes,
    HalfBody,
    /// This status, with an error page; 429 with Retry-After.
    Status(u16),
    /// Status 200, and no JSON.
    Garbage,
    /// Every other request is answered well.
    Flaps,
}

/// What of the file changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Edit {
    /// No stream's definition.
    Limits,
    /// The definition of one stream.
    Stream,
    /// It is no configuration any more; after the next edit it is one.
    Broken,
}

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub length: Duration,
    /// Clients in a storm.
    pub storm: u16,
    /// Whether the gateway's process may end; who watches one process for leaks wants it to stay.
    pub gateway_ends: bool,
}

impl Schedule {
    pub fn of(seed: u64, bounds: Bounds) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut steps = Vec::new();
        let mut of = |part: &mut Vec<(u64, Step)>| steps.append(part);
        of(&mut upstream(&mut rng.fork(), bounds));
        of(&mut redis(&mut rng.fork(), bounds));
        of(&mut clients(&mut rng.fork(), bounds));
        of(&mut gateway(&mut rng.fork(), bounds));
        steps.sort_by_key(|(at, _)| *at);
        let steps = steps
            .into_iter()
            .map(|(at, step)| (Duration::from_millis(at), step))
            .collect();
        let length = bounds.length;
        Self {
            seed,
            length,
            steps,
        }
    }
}

/// Begins with a pause, then `fault` after `fault` with pauses between them, until the time is over. Each gives its steps, with
/// the time until the next one.
fn timeline(
    rng: &mut Rng,
    bounds: Bounds,
    pauses: std::ops::Range<u64>,
    mut fault: impl FnMut(&mut Rng) -> Vec<(Step, u64)>,
) -> Vec<(u64, Step)> {
    let mut steps = Vec::new();
    let end = bounds.length.as_millis() as u64;
    let mut at = rng.u64(0..pauses.end);
    loop {
        let fault = fault(rng);
        let lasts: u64 = fault.iter().map(|(_, lasts)| lasts).sum();
        if at + lasts > end {
            return steps;
        }
        for (step, lasts) in fault {
            steps.push((at, step));
            at += lasts;
        }
        at += rng.u64(pauses.clone());
    }
}

fn upstream(rng: &mut Rng, bounds: Bounds) -> Vec<(u64, Step)> {
    timeline(rng, bounds, 200..1500, |rng| {
        let lasts = rng.u64(50..1500);
        let mood = match rng.u8(0..9) {
            0 => return vec![(Step::UpstreamDies, lasts), (Step::UpstreamReturns, 0)],
            1 => Mood::Hangs,
            2 => Mood::Closes,
            3 => Mood::HalfBody,
            4 => Mood::Status([500, 502, 503, 504][rng.usize(0..4)]),
            5 => Mood::Status(429),
            6 => Mood::Garbage,
            _ => Mood::Flaps,
        };
        vec![
            (Step::Upstream(mood), lasts),
            (Step::Upstream(Mood::Well), 0),
        ]
    })
}

fn redis(rng: &mut Rng, bounds: Bounds) -> Vec<(u64, Step)> {
    timeline(rng, bounds, 300..2500, |rng| match rng.u8(0..4) {
        0 => vec![
            (Step::RedisDies, rng.u64(20..800)),
            (Step::RedisReturns, 100),
        ],
        1 => vec![
            (Step::RedisFreezes, rng.u64(50..1500)),
            (Step::RedisThaws, 0),
        ],
        2 => vec![(Step::RedisForgets, 0)],
        _ => vec![(Step::RedisDies, 0), (Step::RedisReturns, 100)],
    })
}

fn clients(rng: &mut Rng, bounds: Bounds) -> Vec<(u64, Step)> {
    let mut storms = 1;
    timeline(rng, bounds, 100..1000, |rng| {
        let step = match rng.u8(0..5) {
            0 if storms > 0 => {
                storms -= 1;
                Step::Storm(bounds.storm)
            }
            0 | 1 => Step::ClientsStall(rng.u16(200..3000)),
            2 => Step::ClientsVanish(100),
            _ => Step::ClientsVanish(rng.u8(1..100)),
        };
        vec![(step, 0)]
    })
}

fn gateway(rng: &mut Rng, bounds: Bounds) -> Vec<(u64, Step)> {
    timeline(rng, bounds, 300..2500, |rng| match rng.u8(0..7) {
        0 | 1 if bounds.gateway_ends => vec![
            (Step::GatewayDies, rng.u64(0..600)),
            (Step::GatewayReturns, 0),
        ],
        2 | 3 if bounds.gateway_ends => vec![(Step::GatewayUpgrades, rng.u64(0..1500))],
        4 => vec![
            (Step::GatewayReloads(Edit::Broken), rng.u64(0..700)),
            (Step::GatewayReloads(Edit::Limits), 0),
        ],
        5 => vec![(Step::GatewayReloads(Edit::Stream), 0)],
        _ => vec![(Step::GatewayReloads(Edit::Limits), 0)],
    })
}

/// As it is told when a run fails.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?} long:", self.seed, self.length)?;
        for (at, step) in &self.steps {
            writeln!(f, "  {:>6} ms  {step:?}", at.as_millis())?;
        }
        Ok(())
    }
}

/// The same seed is the same schedule; another seed is another one; what breaks is mended before the end.
#[test]
fn a_schedule_is_a_function_of_its_seed() {
    let bounds = Bounds {
        length: Duration::from_secs(20),
        storm: 10,
        gateway_ends: true,
    };
    for seed in 0..200 {
        let schedule = Schedule::of(seed, bounds);
        assert_eq!(schedule, Schedule::of(seed, bounds));
        assert_ne!(schedule.steps, Schedule::of(seed + 1, bounds).steps);
        let last = |of: &[Step]| {
            let found = schedule
                .steps
                .iter()
                .rev()
                .find(|(_, step)| of.contains(step));
            found.map(|(_, step)| *step)
        };
        for (breaks, mends) in [
            (Step::UpstreamDies, Step::UpstreamReturns),
            (Step::RedisDies, Step::RedisReturns),
            (Step::RedisFreezes, Step::RedisThaws),
            (Step::GatewayDies, Step::GatewayReturns),
        ] {
            assert_ne!(last(&[breaks, mends]), Some(breaks), "{schedule}");
        }
        assert!(schedule.steps.iter().all(|(at, _)| *at <= bounds.length));
    }
}
