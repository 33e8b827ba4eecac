//! What happens to the relays.

use anyhow::Result;
use qsocket_tests::process::Raida;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::process::Signal;
use std::fmt;
use std::time::Duration;

/// Longest time between two things that happen.
const PACE: Duration = Duration::from_millis(700);

/// How a relay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    Killed,
    Frozen,
}

/// Kills, freezes and restarts relays.
pub(crate) struct Chaos<'a> {
    raida: &'a Raida,
    rng: ChaCha20Rng,
    most: usize,
    relays: [State; 25],
    report: Report,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: u32,
    pub(crate) freezes: u32,
    /// By relay.
    failures: [u32; 25],
    most_at_once: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hit = self.failures.iter().filter(|count| **count > 0).count();
        write!(
            f,
            "chaos: {} kills, {} freezes, {hit} of 25 relays hit, at most {} down at once",
            self.kills, self.freezes, self.most_at_once
        )
    }
}

impl<'a> Chaos<'a> {
    pub(crate) fn new(raida: &'a Raida, seed: u64, most: usize) -> Self {
        let rng = ChaCha20Rng::seed_from_u64(seed);
        Self { raida, rng, most, relays: [State::Well; 25], report: Report::default() }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    /// Lets one thing happen, after a while.
    pub(crate) fn step(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_millis(self.below(PACE.as_millis() as u64)));
        let relay = self.below(25) as usize;
        let down = self.relays.iter().filter(|state| **state != State::Well).count();
        match self.relays[relay] {
            State::Killed => {
                self.raida.start_relay(relay)?;
                self.relays[relay] = State::Well;
            }
            State::Frozen => {
                self.raida.signal_relay(relay, Signal::CONT)?;
                self.relays[relay] = State::Well;
            }
            State::Well if down >= self.most => {}
            State::Well => {
                if self.below(2) == 0 {
                    self.raida.kill_relay(relay)?;
                    self.relays[relay] = State::Killed;
                    self.report.kills += 1;
                } else {
                    self.raida.signal_relay(relay, Signal::STOP)?;
                    self.relays[relay] = State::Frozen;
                    self.report.freezes += 1;
                }
                self.report.failures[relay] += 1;
                self.report.most_at_once = self.report.most_at_once.max(down + 1);
            }
        }
        self.raida.check_relays()
    }

    /// Has all relays run again.
    pub(crate) fn heal(mut self) -> Result<Report> {
        for (relay, state) in self.relays.iter_mut().enumerate() {
            match state {
                State::Well => {}
                State::Killed => self.raida.start_relay(relay)?,
                State::Frozen => self.raida.signal_relay(relay, Signal::CONT)?,
            }
            *state = State::Well;
        }
        Ok(self.report)
    }
}
