//! The clock of the runtime.
//!
//! The state machines take `now: Instant` and never ask. The shells ask here and nowhere else, so that a test that
//! stops tokio's clock stops the timers of the protocol with it. With a clock that nobody stopped it is
//! [`Instant::now`].

use std::time::Instant;

/// The time by the clock of the current runtime; outside of one, by the system's.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::now;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn it_stands_while_the_runtimes_clock_does() {
        const HOUR: Duration = Duration::from_secs(3600);
        let before = now();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(now(), before);
        tokio::time::advance(HOUR).await;
        assert_eq!(now(), before + HOUR);
    }

    #[test]
    fn it_is_the_systems_outside_of_a_runtime() {
        let before = std::time::Instant::now();
        assert!(now() >= before && now().duration_since(before) < Duration::from_secs(60));
    }
}
