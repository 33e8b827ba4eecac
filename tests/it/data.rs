//! Bytes that can be made again from a seed or from their position, and their digests.

use std::io;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A seeded generator: the same seed gives the same run.
#[derive(Debug)]
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }

    /// A number in `1..=most`.
    pub(crate) fn up_to(&mut self, most: u32) -> usize {
        (self.0.next_u32() % most) as usize + 1
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }
}

/// An endless sequence in which each byte follows from its position, so that a reader can check bytes
/// without knowing how the writer cut them.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<u8>);

/// A prime, so that no power-of-two buffer size lines up with the repetition.
const PERIOD: usize = 65_521;

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed).bytes(PERIOD))
    }

    /// Some bytes that start at `position`; never empty.
    pub(crate) fn at(&self, position: usize) -> &[u8] {
        &self.0[position % PERIOD..]
    }

    /// Exactly `len` bytes that start at `position`.
    pub(crate) fn copy(&self, position: usize, len: usize) -> Vec<u8> {
        self.0.iter().copied().cycle().skip(position % PERIOD).take(len).collect()
    }

    /// How many of `bytes`, from the first on, are the sequence from `position` on.
    pub(crate) fn matching(&self, mut position: usize, bytes: &[u8]) -> usize {
        let mut matched = 0;
        while matched < bytes.len() {
            let expected = self.at(position);
            let len = expected.len().min(bytes.len() - matched);
            let actual = &bytes[matched..matched + len];
            if actual != &expected[..len] {
                return matched + actual.iter().zip(expected).take_while(|(a, b)| a == b).count();
            }
            matched += len;
            position += len;
        }
        matched
    }

    #[track_caller]
    pub(crate) fn check(&self, position: usize, bytes: &[u8]) {
        let matched = self.matching(position, bytes);
        assert_eq!(matched, bytes.len(), "wrong byte at position {}", position + matched);
    }

    /// Writes the sequence from `start` up to `end`.
    pub(crate) async fn send(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
        start: usize,
        end: usize,
    ) -> io::Result<()> {
        let mut position = start;
        while position < end {
            let bytes = self.at(position);
            let len = bytes.len().min(end - position);
            writer.write_all(&bytes[..len]).await?;
            position += len;
        }
        Ok(())
    }

    /// Reads and checks the sequence from `start` up to `end`, and takes nothing beyond it.
    pub(crate) async fn expect(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        start: usize,
        end: usize,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut position = start;
        while position < end {
            let len = buffer.len().min(end - position);
            let n = reader.read(&mut buffer[..len]).await?;
            assert_ne!(n, 0, "the stream ended at {position} of {end}");
            self.check(position, &buffer[..n]);
            position += n;
        }
        Ok(())
    }

    /// The same, followed by the end of the stream.
    pub(crate) async fn expect_all(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        start: usize,
        end: usize,
    ) -> io::Result<()> {
        self.expect(reader, start, end).await?;
        assert_eq!(reader.read(&mut [0; 16]).await?, 0, "the stream must end at {end}");
        Ok(())
    }
}

/// Sends `total` random bytes in writes of random sizes up to `most`, and returns their SHA-256.
pub(crate) async fn send_random(
    writer: &mut (impl AsyncWrite + Unpin),
    seed: u64,
    total: usize,
    most: u32,
) -> io::Result<[u8; 32]> {
    let mut random = Random::new(seed);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; most as usize];
    let mut left = total;
    while left > 0 {
        let len = random.up_to(most).min(left);
        let chunk = &mut buffer[..len];
        random.fill(chunk);
        digest.update(&*chunk);
        writer.write_all(chunk).await?;
        left -= len;
    }
    Ok(digest.finalize().into())
}

/// Reads to the end in reads of random sizes up to `most`; returns the count and the SHA-256.
pub(crate) async fn receive_random(
    reader: &mut (impl AsyncRead + Unpin),
    seed: u64,
    most: u32,
) -> io::Result<(usize, [u8; 32])> {
    let mut random = Random::new(seed);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; most as usize];
    let mut total = 0;
    loop {
        let len = random.up_to(most);
        let n = reader.read(&mut buffer[..len]).await?;
        if n == 0 {
            return Ok((total, digest.finalize().into()));
        }
        digest.update(&buffer[..n]);
        total += n;
    }
}
