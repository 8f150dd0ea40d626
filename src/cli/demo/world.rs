//! The legacy API's data: a small shop with a stock ticker, an order desk and a thermometer, all of which change by
//! themselves. Pure: ticks go in, bodies come out.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// The time between two ticks.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// What is traded.
const SYMBOLS: [&str; 4] = ["ACME", "BOLT", "CRUX", "DUNE"];

const ITEMS: [&str; 8] = [
    "Brass tap",
    "Copper pipe 2 m",
    "Garden hose 25 m",
    "Hand pump",
    "Rain barrel",
    "Stone basin",
    "Watering can",
    "Well rope 30 m",
];

/// The order desk keeps between these many orders.
const ORDERS: (usize, usize) = (4, 8);

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// All quotes, by symbol.
    Quotes,
    /// One quote, by the index of its symbol.
    Quote(usize),
    /// The open orders, newest first.
    Orders,
    /// The thermometer.
    Sensor,
    /// How many orders were shipped, as text.
    Shipped,
}

impl Resource {
    /// All of them, in the order in which they are counted.
    pub(super) const ALL: [Self; 8] = [
        Self::Quotes,
        Self::Orders,
        Self::Sensor,
        Self::Shipped,
        Self::Quote(0),
        Self::Quote(1),
        Self::Quote(2),
        Self::Quote(3),
    ];

    /// The index in [`Self::ALL`] of what stands at `path`.
    pub(super) fn find(path: &str) -> Option<usize> {
        Self::ALL
            .iter()
            .position(|resource| resource.path() == path)
    }

    /// Where it stands.
    pub(super) fn path(self) -> String {
        match self {
            Self::Quotes => "/api/quotes".into(),
            Self::Quote(index) => format!("/api/quotes/{}", SYMBOLS[index]),
            Self::Orders => "/api/orders".into(),
            Self::Sensor => "/api/sensor".into(),
            Self::Shipped => "/api/shipped".into(),
        }
    }

    /// Whether the API gives an `ETag` and answers 304. As with real ones, only some of it does.
    pub(super) fn has_etag(self) -> bool {
        matches!(self, Self::Orders | Self::Sensor)
    }

    /// The media type of its body.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Shipped => "text/plain; charset=utf-8",
            _ => "application/json",
        }
    }
}

/// Everything that changes.
#[derive(Debug)]
pub(super) struct World {
    rng: Rng,
    quotes: [Quote; SYMBOLS.len()],
    orders: VecDeque<Order>,
    orders_due: u32,
    next_order: u32,
    shipped: u32,
    sensor: Sensor,
}

impl World {
    /// A world that takes the same course for the same seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let quotes = [10_120, 4_875, 23_940, 760].map(|open| Quote {
            open: Cents(open),
            price: Cents(open),
            due: pause(&mut rng, 1, 15),
        });
        let mut world = Self {
            rng,
            quotes,
            orders: VecDeque::new(),
            orders_due: 10,
            next_order: 1041,
            shipped: 0,
            sensor: Sensor {
                hundredths: 1_840,
                humidity: 52,
                readings: 0,
                due: 50,
            },
        };
        while world.orders.len() < ORDERS.0 + 1 {
            world.place_order();
        }
        world
    }

    /// Lets [`TICK`] pass.
    pub(super) fn tick(&mut self) {
        for quote in &mut self.quotes {
            quote.tick(&mut self.rng);
        }
        self.sensor.tick(&mut self.rng);
        if due(&mut self.orders_due) {
            self.orders_due = pause(&mut self.rng, 12, 35);
            self.work_on_orders();
        }
    }

    /// The body of a resource.
    pub(super) fn body(&self, resource: Resource) -> String {
        match resource {
            Resource::Quotes => {
                let members = SYMBOLS.iter().zip(&self.quotes);
                let members = members.map(|(symbol, quote)| format!(r#""{symbol}":{quote}"#));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
            Resource::Quote(index) => self.quotes[index].to_string(),
            Resource::Orders => {
                let orders: Vec<_> = self.orders.iter().map(Order::to_string).collect();
                format!("[{}]", orders.join(","))
            }
            Resource::Sensor => self.sensor.to_string(),
            Resource::Shipped => self.shipped.to_string(),
        }
    }

    fn work_on_orders(&mut self) {
        let (fewest, most) = ORDERS;
        match self.rng.u8(0..10) {
            0..4 if self.orders.len() < most => self.place_order(),
            _ => {
                let index = self.rng.usize(0..self.orders.len());
                match self.orders[index].status {
                    Status::Received => self.orders[index].status = Status::Packed,
                    Status::Packed => {
                        self.orders[index].status = Status::Shipped;
                        self.shipped += 1;
                    }
                    Status::Shipped if self.orders.len() > fewest => {
                        self.orders.remove(index);
                    }
                    // The desk is never empty: the oldest leaves when the next one comes.
                    Status::Shipped => {
                        self.orders.remove(index);
                        self.place_order();
                    }
                }
            }
        }
    }

    fn place_order(&mut self) {
        self.orders.push_front(Order {
            id: self.next_order,
            item: ITEMS[self.rng.usize(0..ITEMS.len())],
            quantity: self.rng.u8(1..=9),
            status: Status::Received,
        });
        self.next_order += 1;
    }
}

/// Money, written with two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cents(i32);

#[derive(Debug)]
struct Quote {
    open: Cents,
    price: Cents,
    due: u32,
}

impl Quote {
    /// A random walk with one step every 300 ms to 2 s, held between half and twice the opening price.
    fn tick(&mut self, rng: &mut Rng) {
        if !due(&mut self.due) {
            return;
        }
        self.due = pause(rng, 3, 20);
        let widest = (self.open.0 / 150).max(4);
        let step = rng.i32(1..=widest) * if rng.bool() { 1 } else { -1 };
        self.price.0 = (self.price.0 + step).clamp(self.open.0 / 2, self.open.0 * 2);
    }
}

#[derive(Debug)]
struct Order {
    id: u32,
    item: &'static str,
    quantity: u8,
    status: Status,
}

#[derive(Clone, Copy, Debug)]
enum Status {
    Received,
    Packed,
    Shipped,
}

#[derive(Debug)]
struct Sensor {
    hundredths: i32,
    humidity: i32,
    readings: u32,
    due: u32,
}

impl Sensor {
    /// Measures every 4 to 9 s. Every other time the change is noise, smaller than what anybody wants to know.
    fn tick(&mut self, rng: &mut Rng) {
        if !due(&mut self.due) {
            return;
        }
        self.due = pause(rng, 40, 90);
        self.readings += 1;
        if self.readings.is_multiple_of(2) {
            self.hundredths = (self.hundredths + rng.i32(-60..=60)).clamp(1_200, 2_600);
            self.humidity = (self.humidity + rng.i32(-3..=3)).clamp(30, 80);
        } else {
            self.hundredths += rng.i32(-4..=4);
        }
    }
}

// Everything below writes numbers and texts of this file: nothing in them needs a JSON escape.

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", cents / 100, cents % 100)
    }
}

impl fmt::Display for Quote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = Cents(self.price.0 - self.open.0);
        write!(f, r#"{{"price":{},"change":{change}}}"#, self.price)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            Status::Received => "received",
            Status::Packed => "packed",
            Status::Shipped => "shipped",
        };
        let Self {
            id, item, quantity, ..
        } = self;
        write!(
            f,
            r#"{{"id":{id},"item":"{item}","quantity":{quantity},"status":"{status}"}}"#
        )
    }
}

impl fmt::Display for Sensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let temperature = Cents(self.hundredths);
        write!(
            f,
            r#"{{"temperature":{temperature},"humidity":{},"readings":{}}}"#,
            self.humidity, self.readings
        )
    }
}

/// Counts down; true when the time has come.
fn due(ticks: &mut u32) -> bool {
    *ticks = ticks.saturating_sub(1);
    *ticks == 0
}

fn pause(rng: &mut Rng, shortest: u32, longest: u32) -> u32 {
    rng.u32(shortest..=longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    fn json(world: &World, resource: Resource) -> Value {
        serde_json::from_str(&world.body(resource)).expect("valid JSON")
    }

    #[test]
    fn the_same_seed_takes_the_same_course() {
        let (mut a, mut b) = (World::new(7), World::new(7));
        for _ in 0..1_000 {
            a.tick();
            b.tick();
        }
        for resource in Resource::ALL {
            assert_eq!(a.body(resource), b.body(resource), "{resource:?}");
        }
    }

    #[test]
    fn paths_lead_back_to_their_resources() {
        for (index, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(Resource::find(&resource.path()), Some(index));
        }
        assert_eq!(Resource::find("/api/quotes/NONE"), None);
    }

    #[test]
    fn orders_enter_in_front_and_the_desk_stays_busy() {
        let mut world = World::new(1);
        let mut highest = 0;
        for _ in 0..20_000 {
            world.tick();
            let orders = json(&world, Resource::Orders);
            let ids: Vec<u64> = orders
                .as_array()
                .expect("an array")
                .iter()
                .map(|order| order["id"].as_u64().expect("a number"))
                .collect();
            assert!((ORDERS.0..=ORDERS.1).contains(&ids.len()), "{ids:?}");
            assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
            highest = highest.max(ids[0]);
        }
        assert!(highest > 1_100, "orders keep coming: {highest}");
        assert!(world.shipped > 50, "and going: {}", world.shipped);
    }

    #[test]
    fn each_quote_moves_on_its_own_and_is_written_with_two_decimals() {
        let mut world = World::new(3);
        let mut seen: [HashSet<String>; 4] = Default::default();
        for _ in 0..600 {
            world.tick();
            for (index, seen) in seen.iter_mut().enumerate() {
                let body = world.body(Resource::Quote(index));
                let (_, price) = body.split_once(r#""price":"#).expect("a price");
                let (price, _) = price.split_once(',').expect("a second member");
                let (_, decimals) = price.split_once('.').expect("decimals");
                assert_eq!(decimals.len(), 2, "{body}");
                seen.insert(body);
            }
        }
        // A minute, with a change every 2 s at the slowest.
        assert!(seen.iter().all(|seen| seen.len() > 15));
        let all = json(&world, Resource::Quotes);
        assert_eq!(all["BOLT"], json(&world, Resource::Quote(1)));
    }

    #[test]
    fn the_sensor_rests_for_seconds() {
        let mut world = World::new(5);
        let mut changes = 0;
        let mut last = world.body(Resource::Sensor);
        for _ in 0..6_000 {
            world.tick();
            let body = world.body(Resource::Sensor);
            changes += u32::from(body != last);
            last = body;
        }
        assert!((60..=150).contains(&changes), "{changes} in ten minutes");
    }

    #[test]
    fn a_loss_is_written_with_its_sign() {
        assert_eq!(Cents(-5).to_string(), "-0.05");
        assert_eq!(Cents(12_003).to_string(), "120.03");
    }
}
