//! What is counted.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use qsocket_proto::frame::Frame;
use qsocket_proto::grid::{Kernel, ParitySet, Plan, StripeId, StripeSet, parity_with};
use qsocket_proto::ids::{PathId, RouteId, SIXTEEN};

use crate::measured_work;
use crate::pair::{Half, Pair};

/// One line of the baselines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// Grid parity of a block.
    GridEncode,
    /// MDS parity of a block.
    MdsEncode,
    /// A plan for nine lost stripes, and their recovery.
    MdsDecode,
    /// One DATA frame of a stripe's size into a record, sealed, carried, opened and read.
    HopRecord,
    /// Blocks from a client's write to a server's read, with hop records on 25 paths and all acknowledgements.
    Block,
    /// As [`Case::Block`], a byte at a time and back.
    Echo,
    /// Streams that are opened, accepted, answered and ended in both directions.
    StreamOpen,
    /// Connections that are opened, each with a stream and its first byte there and back.
    Opening,
}

/// Bytes of one stripe of a whole block.
const STRIPE: usize = 4096;

/// Stripes that a block loses, and parity stripes that it has.
const LOST: usize = 9;

/// Times that a case is repeated within one count, so that what happens now and then has its share.
const REPEATS: usize = 16;

impl Case {
    pub(crate) const ALL: [Self; 8] = [
        Self::GridEncode,
        Self::MdsEncode,
        Self::MdsDecode,
        Self::HopRecord,
        Self::Block,
        Self::Echo,
        Self::StreamOpen,
        Self::Opening,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GridEncode => "grid-encode",
            Self::MdsEncode => "mds-encode",
            Self::MdsDecode => "mds-decode",
            Self::HopRecord => "hop-record",
            Self::Block => "block",
            Self::Echo => "echo",
            Self::StreamOpen => "stream-open",
            Self::Opening => "opening",
        }
    }

    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::GridEncode => encode(ParitySet::Grid),
            Self::MdsEncode => encode(ParitySet::Mds),
            Self::MdsDecode => decode(),
            Self::HopRecord => record(),
            Self::Block => block(),
            Self::Echo => echo(),
            Self::StreamOpen => stream_open(),
            Self::Opening => opening(),
        }
    }
}

/// Counts `work`, which may fail.
fn measure(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let mut outcome = Ok(());
    measured_work(&mut || outcome = work());
    outcome
}

fn data() -> Vec<u8> {
    (0..SIXTEEN * STRIPE).map(|i| (i ^ (i >> 7) ^ (i >> 13)) as u8).collect()
}

fn encode(set: ParitySet) -> Result<()> {
    let (data, mut parity) = (data(), vec![0; LOST * STRIPE]);
    let kernel = Kernel::detect();
    measure(|| Ok(parity_with(kernel, set, black_box(&data), black_box(&mut parity))?))
}

fn decode() -> Result<()> {
    let (data, mut parity) = (data(), vec![0; LOST * STRIPE]);
    let kernel = Kernel::detect();
    parity_with(kernel, ParitySet::Mds, &data, &mut parity)?;
    let lost: StripeSet = StripeSet::DATA.iter().take(LOST).collect();
    let mut have = StripeSet::DATA.difference(lost);
    for id in ParitySet::Mds.parity().iter() {
        have.insert(id);
    }
    let mut damaged = data.clone();
    damaged[..LOST * STRIPE].fill(0);
    measure(|| {
        let bytes = |id: StripeId| parity.chunks(STRIPE).nth(id.index() - 25);
        Ok(Plan::new(black_box(have)).apply_with(kernel, &mut damaged, bytes)?)
    })?;
    ensure!(damaged == data, "something else was recovered");
    Ok(())
}

fn record() -> Result<()> {
    let now = Instant::now();
    let path = PathId::all().next().context("no path")?;
    let mut half = Half::new(now, path, 0)?;
    let stripe = vec![0x5a; STRIPE];
    let mut once = |repeats: usize| {
        let mut read = 0;
        for _ in 0..repeats {
            half.outbox.data(RouteId(1), 0, STRIPE, |slot| slot.copy_from_slice(&stripe))?;
            half.carry(now)?;
            half.each(|frame| {
                read += usize::from(matches!(frame, Frame::Data { payload, .. } if payload.len() == STRIPE))
            })?;
        }
        ensure!(read == repeats, "{read} of {repeats} frames arrived");
        Ok(())
    };
    once(1)?;
    measure(|| once(REPEATS))
}

fn block() -> Result<()> {
    let mut pair = Pair::open()?;
    let stream = pair.open_stream()?;
    let bytes = vec![0x5a; 16 * STRIPE];
    let mut buffer = vec![0; 2 * bytes.len()];
    pair.transfer(stream, &bytes, &mut buffer)?;
    measure(|| {
        for _ in 0..REPEATS {
            pair.transfer(stream, &bytes, &mut buffer)?;
        }
        Ok(())
    })
}

fn echo() -> Result<()> {
    let mut pair = Pair::open()?;
    let stream = pair.open_stream()?;
    let mut buffer = [0; 8];
    pair.echo(stream, &mut buffer)?;
    measure(|| {
        for _ in 0..REPEATS {
            pair.echo(stream, &mut buffer)?;
        }
        Ok(())
    })
}

fn stream_open() -> Result<()> {
    let mut pair = Pair::open()?;
    let stream = pair.open_stream()?;
    pair.end_stream(stream)?;
    measure(|| {
        for _ in 0..REPEATS {
            let stream = pair.open_stream()?;
            pair.end_stream(stream)?;
        }
        Ok(())
    })
}

fn opening() -> Result<()> {
    let mut pairs: Vec<Pair> = (0..REPEATS).map(|_| Pair::apart()).collect::<Result<_>>()?;
    measure(|| {
        for pair in &mut pairs {
            pair.dial()?;
            pair.open_stream()?;
        }
        Ok(())
    })
}
