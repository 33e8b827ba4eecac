//! Whether the time of a refusal tells a stranger who is known: a relay's answer to an unknown serial number against its
//! answer to a known one with a wrong binder (`docs/protocol.md`, 2.8, item 7).
//!
//! After dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?"): both classes in random order, Welch's
//! t-test over all times and over those below some percentiles, which leave out what the machine did meanwhile. A |t|
//! of 4.5 or more is evidence of a difference; less is none that this many measurements on this machine could show.
//! `--control` compares unknown serials with unknown ones: where that shows something too, the machine did it.
//!
//! ```sh
//! cargo bench -p qsocket-benches --bench refusal
//! ```

use qsocket::rng::OsRng;
use qsocket_proto::crypto::schedule::hop::{AuthenticityNumber, ImportedKey};
use qsocket_proto::hop::{Dial, Dialer, DialledBy, HopLimits, Inbox, Outbox, Principals, Responder};
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::raida_key::RelayTable;
use rand_core::Rng;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// Relays whose refusals are timed, each with other principals: where one lies in a relay's table and in memory costs a
/// few nanoseconds, whether it is known or not, and that must not be taken for the answer. So it is the means of the
/// relays that are compared.
const RELAYS: usize = 1_000;

/// Refusals of each, of both classes together. Those before caches are filled are not counted.
const MEASUREMENTS: usize = 400;
const WARM_UP: usize = 40;

/// Principals that a relay knows.
const KNOWN: usize = 512;

/// Different HELLOs of each class.
const HELLOS: usize = 16;

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

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// Somebody by chance, known to few.
fn stranger() -> Principal {
    principal(u32::from_be_bytes(random()))
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

/// Times the refusals of one relay: for each percentile, the mean of each class.
fn relay_means(relay: PathId, control: bool) -> [[f64; 2]; PERCENTILES.len()] {
    let mut table = RelayTable::new();
    while table.len() < KNOWN {
        let secret = AuthenticityNumber::new(&random::<32>()).expect("random numbers are not all zero");
        table.insert((stranger(), Role::Client), secret);
    }
    let known: Vec<_> = table.keys().map(|(principal, _)| principal.serial).step_by(KNOWN / HELLOS).collect();
    let hellos: Vec<[_; 2]> = known
        .iter()
        .map(|known| {
            let other = if control { stranger().serial } else { *known };
            [hello(stranger().serial, relay), hello(other, relay)]
        })
        .collect();
    let table = Table(table, relay);
    let mut times = Vec::with_capacity(MEASUREMENTS);
    for round in 0..WARM_UP + MEASUREMENTS {
        let [class, which] = random().map(usize::from);
        let class = class % 2;
        let time = refuse(&table, &hellos[which % HELLOS][class]);
        if round >= WARM_UP {
            times.push((time, class));
        }
    }
    times.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    PERCENTILES.map(|percentile| {
        let mut classes = [Times::default(); 2];
        for (time, class) in &times[..times.len() * percentile / 100] {
            classes[*class].add(*time);
        }
        classes.map(|class| class.mean)
    })
}

fn main() -> ExitCode {
    let relay = PathId::all().next().expect("there are 25");
    // With `--control` nobody is known, and whatever shows is not the answer's.
    let control = std::env::args().any(|argument| argument == "--control");
    // Of each percentile, the means of each relay by class.
    let mut means = [[Times::default(); 2]; PERCENTILES.len()];
    for _ in 0..RELAYS {
        for (means, of_relay) in means.iter_mut().zip(relay_means(relay, control)) {
            means.iter_mut().zip(of_relay).for_each(|(all, mean)| all.add(mean));
        }
    }
    let what = if control { "unknown, and unknown again" } else { "unknown, known with a wrong binder" };
    println!(
        "{RELAYS} relays, {MEASUREMENTS} refusals each; ns: {what}; |t| below {THRESHOLD} shows nothing"
    );
    let mut worst: f64 = 0.0;
    for (percentile, classes) in PERCENTILES.iter().zip(means) {
        let t = t(classes);
        worst = worst.max(t.abs());
        println!("fastest {percentile:3} %: {:8.1} {:8.1}, t = {t:+.2}", classes[0].mean, classes[1].mean);
    }
    println!("greatest |t| = {worst:.2}");
    if worst < THRESHOLD { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
