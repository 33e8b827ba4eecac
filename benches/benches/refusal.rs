//! Whether the time of a refusal tells a stranger who is known: a relay's answer to an unknown serial number against its
//! answer to a known one with a wrong binder (`docs/protocol.md`, 2.8, item 7).
//!
//! After dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?"): both classes in random order, Welch's
//! t-test over all times and over those below some percentiles, which leave out what the machine did meanwhile. A |t|
//! of 4.5 or more is evidence of a difference; less is none that this many measurements on this machine could show.
//!
//! ```sh
//! cargo bench -p qsocket-benches --bench refusal
//! ```

use qsocket::RaidaKey;
use qsocket::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::hop::{Dial, Dialer, DialledBy, HopLimits, Inbox, Outbox, Principals, Responder};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::{RelayTable, Strength, relay_table};
use rand_core::Rng;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// Refusals that are timed, of both classes together.
const MEASUREMENTS: usize = 400_000;

/// Not counted: caches and the processor's clock settle.
const WARM_UP: usize = 20_000;

/// Principals that the relay knows.
const KNOWN: u32 = 512;

/// Different HELLOs of each class.
const HELLOS: u32 = 256;

/// As in dudect: above it a difference is all but certain.
const THRESHOLD: f64 = 4.5;

/// Parts of all times, the shortest first, over which a test runs.
const PERCENTILES: [usize; 6] = [100, 99, 95, 90, 75, 50];

/// What a relay keeps, looked up as a relay does.
struct Table(RelayTable, PathId);

impl Principals for Table {
    fn imported_key(&self, principal: Principal, role: Role) -> Option<ImportedKey> {
        self.0.get(&(principal, role)).map(|number| ImportedKey::new(number, principal, self.1, role))
    }
}

fn principal(serial: u32) -> Principal {
    Principal { network: 1, denomination: 0, serial }
}

/// The HELLO of somebody who has no number of this principal.
fn hello(serial: u32, relay: PathId) -> Vec<u8> {
    let number = AuthenticityNumber::new(&[0x5a; 32]).expect("32 bytes that are not all zero");
    let (principal, role) = (principal(serial), Role::Client);
    let dial =
        Dial { principal, role, relay, dialled_by: DialledBy::Principal, limits: HopLimits::default() };
    let mut outbox = Outbox::new(1 << 16);
    let key = ImportedKey::new(&number, principal, relay, role);
    Dialer::new(Instant::now(), dial, key, &mut OsRng, &mut outbox);
    outbox.wire().to_vec()
}

/// Nanoseconds of one refusal.
fn refuse(table: &Table, hello: &[u8]) -> f64 {
    let (mut inbox, mut outbox) = (Inbox::new(), Outbox::new(1 << 16));
    inbox.extend(hello);
    let now = Instant::now();
    let mut responder = Responder::new(now, table.1, DialledBy::Principal, HopLimits::default());
    let begun = Instant::now();
    let refused = responder.handle(now, &mut inbox, &mut outbox, table, &mut OsRng);
    let took = begun.elapsed();
    assert!(black_box(refused).is_err(), "nobody has a number");
    took.as_nanos() as f64
}

/// Mean and variance as they come (Welford).
#[derive(Clone, Copy, Default)]
struct Times {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Times {
    fn add(&mut self, time: f64) {
        self.count += 1.0;
        let off = time - self.mean;
        self.mean += off / self.count;
        self.squares += off * (time - self.mean);
    }

    /// Variance of the mean.
    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// Welch's t.
fn t([one, other]: [Times; 2]) -> f64 {
    (one.mean - other.mean) / (one.error() + other.error()).sqrt()
}

fn main() -> ExitCode {
    let relay = PathId::all().next().expect("there are 25");
    let keys: Vec<RaidaKey> = (0..KNOWN)
        .map(|i| RaidaKey::generate(principal(2 * i), Role::Client, Strength::Bits256, &mut OsRng))
        .collect::<Result<_, _>>()
        .expect("random numbers do not repeat");
    let table = Table(relay_table(&keys, relay), relay);
    // Known ones are even, unknown ones odd, so that both lie in the same places of the table.
    let hellos: [Vec<_>; 2] = [1, 0].map(|odd| (0..HELLOS).map(|i| hello(4 * i + odd, relay)).collect());
    let mut order = [0; 2];
    let mut times = Vec::with_capacity(MEASUREMENTS);
    for round in 0..WARM_UP + MEASUREMENTS {
        OsRng.fill_bytes(&mut order);
        let [class, which] = order;
        let class = usize::from(class % 2);
        let time = refuse(&table, &hellos[class][usize::from(which)]);
        if round >= WARM_UP {
            times.push((time, class));
        }
    }
    times.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    println!(
        "{MEASUREMENTS} refusals; ns: unknown, known with a wrong binder; |t| below {THRESHOLD} shows nothing"
    );
    let mut worst: f64 = 0.0;
    for percentile in PERCENTILES {
        let mut classes = [Times::default(); 2];
        for (time, class) in &times[..times.len() * percentile / 100] {
            classes[*class].add(*time);
        }
        let t = t(classes);
        worst = worst.max(t.abs());
        println!("fastest {percentile:3} %: {:8.1} {:8.1}, t = {t:+.2}", classes[0].mean, classes[1].mean);
    }
    println!("greatest |t| = {worst:.2}");
    if worst < THRESHOLD { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
