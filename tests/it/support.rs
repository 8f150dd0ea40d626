//! Real parts with a controller; each ends by `Drop`.

pub mod authority;
pub mod browser;
pub mod cable;
pub mod client;
pub mod gateway;
pub mod process;
pub mod redis;
pub mod redis_many;
pub mod relay;
pub mod token;
pub mod upstream;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds. Looks again and again: the bound is for failure alone.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Completes `future`, which must not take long.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("never: {what}"),
    }
}
