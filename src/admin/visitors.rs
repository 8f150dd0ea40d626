//! Who is connected to the admin listener: so many at a time. Who comes when there are so many takes the place of another at once,
//! so that nobody who only holds connections open keeps operators and health checks out (EDGE B7, Q13).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// All of them, the oldest first.
#[derive(Debug)]
pub(super) struct Visitors {
    most: usize,
    here: Mutex<VecDeque<Arc<Visitor>>>,
}

#[derive(Debug, Default)]
struct Visitor {
    asked: AtomicBool,
    leave: CancellationToken,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Visit {
    visitors: Arc<Visitors>,
    visitor: Arc<Visitor>,
}

impl Visitors {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            here: Mutex::default(),
        })
    }

    /// One more. Where there are as many as there may be, the oldest that has asked nothing yet has to leave, or else the oldest.
    pub(super) fn come(self: &Arc<Self>) -> Visit {
        let visitor = Arc::<Visitor>::default();
        let mut here = self.here.lock();
        if here.len() >= self.most {
            let idle = |one: &Arc<Visitor>| !one.asked.load(Ordering::Relaxed);
            let at = here.iter().position(idle).unwrap_or(0);
            if let Some(goes) = here.remove(at) {
                goes.leave.cancel();
            }
        }
        here.push_back(visitor.clone());
        Visit {
            visitors: self.clone(),
            visitor,
        }
    }
}

impl Visit {
    /// What is told of a request.
    pub(super) fn asks(&self) -> impl Fn() + Send + 'static {
        let visitor = self.visitor.clone();
        move || visitor.asked.store(true, Ordering::Relaxed)
    }

    /// Completes when another is to have the place.
    pub(super) async fn is_over(&self) {
        self.visitor.leave.cancelled().await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut here = self.visitors.here.lock();
        here.retain(|one| !Arc::ptr_eq(one, &self.visitor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(visit: &Visit) -> bool {
        visit.visitor.leave.is_cancelled()
    }

    /// Who has asked stays as long as another has not; the newest always has a place; and places come back.
    #[test]
    fn the_oldest_that_asked_nothing_leaves_first() {
        let visitors = Visitors::new(2);
        let (first, second) = (visitors.come(), visitors.come());
        first.asks()();
        let third = visitors.come();
        assert_eq!([&first, &second, &third].map(is_over), [false, true, false]);
        third.asks()();
        let fourth = visitors.come();
        assert_eq!([&first, &third, &fourth].map(is_over), [true, false, false]);
        drop((first, second, third));
        let fifth = visitors.come();
        assert_eq!([&fourth, &fifth].map(is_over), [false, false]);
        drop((fourth, fifth));
        assert!(visitors.here.lock().is_empty());
    }
}
