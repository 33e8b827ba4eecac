//! Many at once. The program `limits` has what needs thousands of sockets or real processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use qsocket::PathId;
use qsocket::testing::Raida;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const CLIENTS: usize = 40;

/// A look at what a relay has seen.
const STEP: Duration = Duration::from_millis(50);

/// Twenty steps are a second.
const SECOND: usize = 20;

/// Ends a test that hangs.
const HANG: Duration = Duration::from_secs(600);

/// Connections that a relay was asked for since it started.
fn asked(raida: &Raida, path: PathId) -> usize {
    raida.relays().relay_stats(path).map_or(0, |stats| stats.hops + stats.refused.total() as usize)
}

/// All relays are away for so long; how many attempts one of them sees at most in a step and in a second afterwards, and
/// when everybody has 25 hops.
async fn away_for(away: Duration) -> io::Result<(usize, usize, Duration)> {
    let raida = Raida::start()?;
    let clients = (0..CLIENTS).map(|_| raida.client()).collect::<io::Result<Vec<_>>>()?;
    for client in &clients {
        timeout(HANG, client.hops_up(25)).await?;
    }
    for path in PathId::all() {
        raida.stop_relay(path).await;
    }
    sleep(away).await;
    let begun = Instant::now();
    for path in PathId::all() {
        raida.start_relay(path)?;
    }
    let relay = PathId::new(11).unwrap();
    let (mut seen, mut in_a_step, mut in_a_second) = (VecDeque::from([0]), 0, 0);
    while clients.iter().any(|client| client.health().borrow().well() < 25) {
        sleep(STEP).await;
        let now = asked(&raida, relay);
        in_a_step = in_a_step.max(now - seen.back().unwrap());
        seen.push_back(now);
        if seen.len() > SECOND + 1 {
            seen.pop_front();
        }
        in_a_second = in_a_second.max(now - seen.front().unwrap());
        assert!(begun.elapsed() < HANG, "somebody does not come back");
    }
    Ok((in_a_step, in_a_second, begun.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn clients_of_relays_that_were_away_come_back_in_time_and_not_in_step() -> io::Result<()> {
    for away in [0, 2, 30] {
        let (in_a_step, in_a_second, took) = away_for(Duration::from_secs(away)).await?;
        assert!(took <= Duration::from_secs(60), "{took:?} after {away} s");
        assert!(in_a_step <= CLIENTS / 2, "{in_a_step} of {CLIENTS} at once after {away} s");
        assert!(in_a_second <= CLIENTS * 5 / 4, "{in_a_second} of {CLIENTS} in a second after {away} s");
    }
    Ok(())
}
