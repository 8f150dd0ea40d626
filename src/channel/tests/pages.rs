//! Clients that come back to a source that has ids of its own, while entries come in and are trimmed away (EDGE L8, L9).

use std::collections::{BTreeSet, VecDeque};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// So many entries are added to the source.
    Add(u8),
    /// All but so many entries are trimmed away.
    Trim(u8),
    /// The entry of this number, if it is there, is deleted on its own.
    Delete(u8),
    /// What is new is told to the channel.
    Feed,
    /// Pages that are wanted begin to be read, of this size.
    Read(u8),
    /// They are there.
    Found,
    /// The source does not answer, or does again.
    Fail(bool),
    /// A client comes that has nothing.
    New,
    /// A client comes that has the entry of this number.
    Come(u8),
    /// Everybody takes what is owed.
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12_u8).prop_map(Step::Add),
        1 => (0..20_u8).prop_map(Step::Trim),
        2 => (10..60_u8).prop_map(Step::Delete),
        4 => Just(Step::Feed),
        4 => (1..8_u8).prop_map(Step::Read),
        4 => Just(Step::Found),
        1 => any::<bool>().prop_map(Step::Fail),
        1 => Just(Step::New),
        3 => (0..60_u8).prop_map(Step::Come),
        4 => Just(Step::Take),
    ];
    prop::collection::vec(step, 0..80)
}

/// Bytes: two or three entries.
const QUEUE_OF_ENTRIES: usize = 5;

fn id(number: u64) -> EntryId {
    EntryId { ms: number, seq: 1 }
}

/// The source, what the channel was told of it, and who reads.
struct World {
    channel: Arc<Channel>,
    entries: VecDeque<u64>,
    added: u64,
    fed: u64,
    /// Deleted, or trimmed before anybody read them.
    lost: BTreeSet<u64>,
    under_way: Vec<(Wanted, Vec<(EntryId, Found)>)>,
    clients: Vec<Client>,
}

#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Listener for Bell {
    fn changed(&self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Client {
    cursor: Cursor,
    /// It asks when it is told that there is something, and only then.
    bell: Arc<Bell>,
    has: u64,
    resets: usize,
    told: Vec<u64>,
    /// Whether its entry was there when it came.
    was_known: bool,
    stale: bool,
}

impl World {
    fn new() -> Self {
        let key = ChannelKey::shared(StreamId::new(), Params::default());
        let spec = Spec {
            history: History {
                events: 4,
                ..Spec::plain("").history
            },
            current: false,
            ids: Ids::OfSource,
            ..Spec::plain("/test")
        };
        let mut world = Self {
            channel: Arc::new(Channel::new(key, spec)),
            entries: VecDeque::new(),
            added: 0,
            fed: 0,
            lost: BTreeSet::new(),
            under_way: Vec::new(),
            clients: Vec::new(),
        };
        world.add(20);
        world.fed = 20;
        world.channel.open_window(id(20));
        world
    }

    fn add(&mut self, count: u8) {
        for _ in 0..count {
            self.added += 1;
            self.entries.push_back(self.added);
        }
    }

    fn knows(&self, number: u64) -> bool {
        self.entries.front().is_some_and(|first| *first <= number) && number <= self.added
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Add(count) => self.add(*count),
            Step::Trim(left) => {
                while self.entries.len() > usize::from(*left) {
                    let trimmed = self.entries.pop_front().expect("more than that");
                    if trimmed > self.fed {
                        self.lost.insert(trimmed);
                    }
                }
            }
            Step::Delete(number) => {
                let number = u64::from(*number);
                self.entries.retain(|entry| *entry != number);
                // Nobody has to get it any more.
                self.lost.insert(number);
            }
            Step::Feed => {
                for number in self.entries.clone() {
                    if number > self.fed {
                        self.fed = number;
                        let value = json(&number.to_string());
                        self.channel.append_entry(id(number), value);
                    }
                }
            }
            Step::Read(size) => self.read(usize::from(*size)),
            Step::Found => {
                if !self.under_way.is_empty() {
                    let (wanted, pages) = self.under_way.remove(0);
                    for (after, found) in pages {
                        self.channel.found(&wanted, after, Some(found));
                    }
                }
            }
            Step::Fail(true) => self.channel.stale("redis"),
            Step::Fail(false) => self.channel.confirm(),
            Step::New => {
                let client = Client::new(&self.channel, Cursor::New, self.fed, true);
                self.clients.push(client);
            }
            Step::Come(number) => {
                let has = u64::from(*number);
                let text = id(has).to_string();
                let cursor = self.channel.cursor_after(text.as_bytes());
                let client = Client::new(&self.channel, cursor, has, self.knows(has));
                self.clients.push(client);
            }
            Step::Take => self.take(),
        }
    }

    fn read(&mut self, size: usize) {
        let Some(wanted) = self.channel.begin_pages() else {
            return;
        };
        let pages = wanted.after.iter().map(|after| {
            let found = if self.knows(after.ms) {
                let later = self.entries.iter().filter(|number| **number > after.ms);
                let page: Vec<u64> = later.copied().take(size + 1).collect();
                let is_all = page.len() <= size;
                let page = &page[..page.len().min(size)];
                Found::Page {
                    events: page.iter().map(|number| event(*number)).collect(),
                    last: page.last().map(|number| id(*number)),
                    is_all,
                }
            } else {
                Found::Unknown
            };
            (*after, found)
        });
        let pages = pages.collect();
        self.under_way.push((wanted, pages));
    }

    fn take(&mut self) {
        for client in &mut self.clients {
            client.take(&self.channel);
        }
    }

    /// Until nobody is owed anything.
    fn settle(&mut self) {
        self.play(&Step::Fail(false));
        for _ in 0..200 {
            self.play(&Step::Feed);
            self.play(&Step::Found);
            self.play(&Step::Read(3));
            self.play(&Step::Take);
        }
    }
}

impl Client {
    fn new(channel: &Channel, cursor: Cursor, has: u64, was_known: bool) -> Self {
        let bell = Arc::new(Bell::default());
        channel.listen(bell.clone());
        let mut client = Self {
            cursor,
            bell,
            has,
            resets: 0,
            told: Vec::new(),
            was_known,
            stale: false,
        };
        client.ask(channel);
        client
    }

    fn take(&mut self, channel: &Channel) {
        while self.bell.0.swap(false, Ordering::AcqRel) {
            self.ask(channel);
        }
    }

    fn ask(&mut self, channel: &Channel) {
        if let Some(delivery) = channel.deliver(&self.cursor, Form::Value, QUEUE_OF_ENTRIES) {
            self.cursor = delivery.cursor;
            let Some(frame) = delivery.frame else {
                return;
            };
            for item in Parser::default().push(&frame.payload()) {
                let Item::Event(event) = item else {
                    panic!("{item:?}")
                };
                match event.name.as_str() {
                    "reset" => {
                        self.resets += 1;
                        self.told.clear();
                    }
                    "stale" => assert!(!std::mem::replace(&mut self.stale, true), "told twice"),
                    "fresh" => self.stale = false,
                    "message" => {
                        let number = event.data.parse().expect("a number");
                        assert_eq!(event.id, id(number).to_string());
                        self.told.push(number);
                    }
                    other => panic!("{other}"),
                }
            }
        }
    }
}

fn event(number: u64) -> Arc<Event> {
    let value = json(&number.to_string());
    Arc::new(Event::of_past(id(number), value, Instant::now()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// EDGE L8, L9: each missed entry once and in order, however the page ends, the log and new entries meet; and one reset, when and
    /// only when entries that it has missed are gone.
    #[test]
    fn who_comes_back_misses_nothing_or_is_told(steps in steps()) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.play(step));
        world.settle();
        for client in &world.clients {
            let (told, has) = (&client.told, client.has);
            prop_assert!(!client.stale, "nothing fails any more");
            // Who is ahead of the channel waits for it.
            let is_ahead = has > world.fed;
            let is_there = matches!(client.cursor, Cursor::AtEntry(..));
            prop_assert!(is_there || is_ahead, "{:?}", client.cursor);
            if !client.was_known {
                // It may have become known before anybody looked, when it was of the future.
                prop_assert!(client.resets > 0 || has <= world.added, "an unknown id");
            }
            if world.knows(has) && client.was_known {
                prop_assert_eq!(client.resets, 0, "it was known all the time");
            }
            let first = match client.resets {
                0 => has + 1,
                _ => told.first().copied().unwrap_or(world.added + 1),
            };
            let all: Vec<u64> = (first..=world.added).collect();
            let kept: Vec<u64> = all.iter().copied().filter(|n| !world.lost.contains(n)).collect();
            let missing: Vec<u64> = all.iter().copied().filter(|n| !told.contains(n)).collect();
            prop_assert!(missing.iter().all(|n| world.lost.contains(n)), "{told:?} of {kept:?} after {has}");
            prop_assert!(told.iter().all(|n| all.contains(n)), "{told:?} of {all:?} after {has}");
            prop_assert!(told.is_sorted_by(|one, other| one < other), "{told:?}");
        }
    }
}

/// EDGE L8: who waits for the same page shares it, and it is read once; who comes later is answered from a reading of its own.
#[test]
fn a_page_is_read_once_for_all_who_wait() {
    let mut world = World::new();
    (0..100).for_each(|_| world.play(&Step::Come(3)));
    world.play(&Step::Take);
    let wanted = world.channel.begin_pages().expect("wanted");
    assert_eq!(wanted.after, [id(3)]);
    world.play(&Step::Take);
    assert!(world.channel.begin_pages().is_none());
    world.play(&Step::Come(3));
    world.play(&Step::Take);
    let again = world.channel.begin_pages().expect("wanted");
    assert_eq!(again.after, [id(3)]);
}

/// EDGE B6: however many come with ids of their own, only so many pages are read and held at once, and all are served.
#[test]
fn what_is_read_at_once_is_bounded() {
    let mut world = World::new();
    world.add(40);
    (0..60).for_each(|number| world.play(&Step::Come(number)));
    world.play(&Step::Take);
    let wanted = world.channel.begin_pages().expect("wanted");
    assert_eq!(wanted.after.len(), 16);
    for after in &wanted.after {
        world.channel.found(&wanted, *after, None);
    }
    world.settle();
    for client in &world.clients {
        // No entry has the number 0.
        let resets = usize::from(client.has == 0);
        assert_eq!(client.resets, resets, "{}", client.has);
        assert_eq!(
            client.told.last(),
            (resets == 0).then_some(&60),
            "{}",
            client.has
        );
    }
}
