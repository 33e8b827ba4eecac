//! What one run is made of, drawn from its seed.
//!
//! Every run draws which kinds of faults it has at all, how the relays and links are, how small the buffers, windows
//! and key limits are, and what the programs say. Runs that leave things out find what a uniform mixture hides: a
//! fault that only shows while another one does not happen.

use crate::sim::hop::Tuning;
use crate::sim::liar::Lie;
use crate::sim::net::{SERVER_A, SERVER_B};
use crate::sim::program::Job;
use crate::sim::talk::Talk;
use crate::sim::{Sizes, Speed};
use qsocket_proto::connection::{Config, KeyLimits, ParityPolicy, Redundancy};
use qsocket_proto::hop::HopLimits;
use qsocket_proto::ids::{RELAYS, TOLERATED};
use qsocket_proto::open::MlKem;
use qsocket_proto::relay::EgressLimits;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// Something that happens to the network or to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    CrashRelay,
    RestartRelay,
    FreezeRelay,
    ThawRelay,
    SlowRelay,
    WellRelay,
    BreakLink,
    CutLink,
    StallPipe,
    CorruptPipe,
    MendLinks,
    FreezeServer,
    FreezeClient,
    ThawEnds,
    StopReading,
    ReadOn,
    Connect,
    CrashServer,
    CrashClient,
    /// Nothing happens for some seconds.
    Sleep,
}

/// Each of these is in half of the runs.
const ORDINARY: [Fault; 11] = [
    Fault::CrashRelay,
    Fault::FreezeRelay,
    Fault::SlowRelay,
    Fault::BreakLink,
    Fault::CutLink,
    Fault::StallPipe,
    Fault::CorruptPipe,
    Fault::FreezeServer,
    Fault::FreezeClient,
    Fault::StopReading,
    Fault::Connect,
];

/// What ends the others is in all.
const REPAIRS: [Fault; 6] = [
    Fault::RestartRelay,
    Fault::ThawRelay,
    Fault::WellRelay,
    Fault::MendLinks,
    Fault::ThawEnds,
    Fault::ReadOn,
];

/// Each of these is in one run of eight.
const RARE: [Fault; 3] = [Fault::CrashServer, Fault::CrashClient, Fault::Sleep];

/// One run.
#[derive(Debug)]
pub struct Mix {
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub steps: u64,
    /// The longest pause between two, in milliseconds.
    pub pause: u64,
    /// They begin before a connection is open.
    pub from_the_start: bool,
    /// Relays that lie, each about one frame in so many.
    pub liars: BTreeMap<usize, (Vec<Lie>, u32)>,
    pub sizes: Sizes,
    pub tuning: Tuning,
    pub speed: Speed,
    pub client: Config,
    pub server: Config,
    /// Which server: one that relays dial, or one that dials them.
    pub at: u32,
    pub clients: u32,
    /// The fault points of the code are armed with this.
    pub points: Option<u64>,
    /// They stay armed when all is healed.
    pub points_stay: bool,
    /// Streams that each end opens on a connection, at the most.
    streams: u64,
    /// The most bytes of one direction of a stream.
    most: u64,
    rng: ChaCha12Rng,
    keys: u64,
}

impl Mix {
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed ^ 0x6368_616f_7321));
        let mut faults = REPAIRS.to_vec();
        faults.extend(ORDINARY.into_iter().filter(|_| dice.one_in(2)));
        faults.extend(RARE.into_iter().filter(|_| dice.one_in(8)));
        // One run in sixteen has more liars than may be: nothing wrong may come of it even so.
        let (most, few) = (RELAYS as u64 - 10, TOLERATED as u64 + 1);
        let count = if dice.one_in(16) { dice.below(most + 1) } else { dice.below(few) * dice.below(2) };
        let liars =
            dice.some_relays(count as usize).into_iter().map(|relay| (relay, dice.habits())).collect();
        let client = dice.config();
        let mut server = dice.config();
        if matches!(
            (client.ml_kem, server.ml_kem),
            (MlKem::Off, MlKem::Require) | (MlKem::Require, MlKem::Off)
        ) {
            server.ml_kem = client.ml_kem;
        }
        // A small window takes a round trip for so few bytes: what is said must be said within the time that it gets.
        let window = |config: &Config| {
            config.stream_window.min(config.connection_window / 8).min(config.send_buffer as u64).max(1)
        };
        let most = dice.of(&[200, 5_000, 40_000, 200_000]).min(window(&client).min(window(&server)) * 20);
        Self {
            faults,
            steps: 10 + dice.below(70),
            pause: dice.of(&[5, 20, 60]),
            from_the_start: dice.one_in(4),
            liars,
            sizes: Sizes {
                send_buffer: dice.of(&[2_000, 16_000, 64_000]),
                receive_buffer: dice.of(&[2_000, 30_000, 128_000]),
                chunk: dice.of(&[577, 1_460, 16_000, 16_384]),
            },
            tuning: dice.tuning(),
            speed: Speed {
                rate: dice.of(&[100_000, 2_000_000, 2_000_000, 50_000_000]),
                delay: Duration::from_micros(dice.of(&[1_000, 5_000, 5_000, 30_000])),
            },
            client,
            server,
            at: dice.of(&[SERVER_A, SERVER_B]),
            clients: dice.of(&[1, 1, 1, 2]),
            points: (!dice.one_in(3)).then(|| dice.below(u64::MAX)),
            points_stay: dice.one_in(2),
            streams: dice.of(&[1, 3, 8]),
            most,
            rng: dice.0,
            keys: seed << 20,
        }
    }

    /// What one end does of its own on a connection.
    pub fn jobs(&mut self, opener: bool) -> Vec<Job> {
        let count = self.rng.next_u64() % self.streams + u64::from(opener);
        let mut after = Duration::ZERO;
        let mut job = || {
            self.keys += 1;
            let talk = Talk::draw(&mut self.rng, self.most);
            let pause = self.rng.next_u64() % 1000;
            after += Duration::from_millis(if pause.is_multiple_of(2) { 0 } else { pause });
            Job::talk(self.keys, talk, after)
        };
        (0..count).map(|_| job()).collect()
    }
}

struct Dice(ChaCha12Rng);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn some_relays(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..RELAYS).collect();
        all.sort_by_cached_key(|_| self.0.next_u32());
        all.truncate(count);
        all
    }

    fn habits(&mut self) -> (Vec<Lie>, u32) {
        let mut lies: Vec<_> = Lie::ALL.into_iter().filter(|_| self.one_in(3)).collect();
        lies.push(self.of(&Lie::ALL));
        (lies, self.of(&[1, 3, 30]))
    }

    fn tuning(&mut self) -> Tuning {
        let common = Tuning::default();
        Tuning {
            local_queue: self.of(&[common.local_queue, common.local_queue, 20_000, 1 << 20]),
            hop_limits: HopLimits { soft_records: self.of(&[1 << 20, 1 << 20, 50, 3]), ..common.hop_limits },
            egress: EgressLimits {
                route: self.of(&[common.egress.route, common.egress.route, 40_000]),
                hop: self.of(&[common.egress.hop, common.egress.hop, 100_000]),
                outbox: self.of(&[common.egress.outbox, common.egress.outbox, 20_000]),
            },
        }
    }

    fn config(&mut self) -> Config {
        let common = Config::default();
        let soft_seals = self.of(&[common.key_limits.soft_seals, common.key_limits.soft_seals, 300, 30]);
        Config {
            parity: self.of(&[ParityPolicy::Auto, ParityPolicy::Auto, ParityPolicy::Grid, ParityPolicy::Mds]),
            redundancy: self.of(&[Redundancy::Full, Redundancy::Adaptive]),
            ml_kem: self.of(&[MlKem::On, MlKem::Off, MlKem::Off, MlKem::Require]),
            stream_window: self.of(&[common.stream_window, common.stream_window, 30_000, 1_000, 10]),
            connection_window: self.of(&[common.connection_window, common.connection_window, 20_000, 100]),
            max_streams: self.of(&[common.max_streams, common.max_streams, 3, 1]),
            max_connections: common.max_connections,
            send_buffer: self.of(&[common.send_buffer, common.send_buffer, 10_000, 1]),
            // More than all faults of a run take together: silence is never a reason to end.
            idle: Duration::from_secs(60),
            nodelay: self.one_in(2),
            key_limits: KeyLimits { soft_seals, ..common.key_limits },
        }
    }
}
