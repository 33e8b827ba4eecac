//! The halves of a stream: borrowed ones for one task, owned ones for two.

use super::io::{async_read, async_write, common_methods, peek_methods, read_methods, write_methods};
use super::{Inner, QSocketStream};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// The borrowed reading half of a [`QSocketStream`], from [`QSocketStream::split`].
pub struct ReadHalf<'a>(&'a QSocketStream);

/// The borrowed writing half of a [`QSocketStream`], from [`QSocketStream::split`]. Dropping it ends nothing: the
/// stream stays.
pub struct WriteHalf<'a>(&'a QSocketStream);

/// The reading half of a [`QSocketStream`], from [`QSocketStream::into_split`].
pub struct OwnedReadHalf {
    /// Shares the stream with the other half.
    stream: QSocketStream,
}

/// The writing half of a [`QSocketStream`], from [`QSocketStream::into_split`]. Dropping it ends the direction
/// cleanly, as with a TCP stream: the peer reads the end after the last byte.
pub struct OwnedWriteHalf {
    /// Shares the stream with the other half.
    stream: QSocketStream,
    /// Not after [`OwnedWriteHalf::reunite`] and [`OwnedWriteHalf::forget`].
    finish_on_drop: bool,
}

/// The two halves are not of one stream.
#[derive(Debug, Error)]
#[error("the two halves belong to different streams")]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

pub(super) fn split(stream: &QSocketStream) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf(stream), WriteHalf(stream))
}

pub(super) fn into_split(stream: QSocketStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    let other = QSocketStream { inner: stream.inner.clone() };
    (OwnedReadHalf { stream: other }, OwnedWriteHalf { stream, finish_on_drop: true })
}

impl OwnedReadHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// [`ReuniteError`] gives them back if they are not of one stream.
    pub fn reunite(self, mut other: OwnedWriteHalf) -> Result<QSocketStream, ReuniteError> {
        if !Arc::ptr_eq(&self.stream.inner, &other.stream.inner) {
            return Err(ReuniteError(self, other));
        }
        other.finish_on_drop = false;
        Ok(self.stream)
    }
}

impl OwnedWriteHalf {
    /// Puts the halves together again.
    ///
    /// # Errors
    /// [`ReuniteError`] gives them back if they are not of one stream.
    pub fn reunite(self, other: OwnedReadHalf) -> Result<QSocketStream, ReuniteError> {
        other.reunite(self)
    }

    /// Drops the half without ending the direction. It can end no more then: once the reading half is dropped too,
    /// the stream is aborted and the peer reads an error.
    pub fn forget(mut self) {
        self.finish_on_drop = false;
    }
}

impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if self.finish_on_drop {
            self.inner().finish();
        }
    }
}

/// Leads a half to its stream.
macro_rules! half {
    ($name:literal, $type:ty, $self:ident => $stream:expr) => {
        impl $type {
            fn stream(&$self) -> &QSocketStream {
                $stream
            }

            fn inner(&self) -> &Inner {
                &self.stream().inner
            }
        }

        impl AsRef<QSocketStream> for $type {
            fn as_ref(&self) -> &QSocketStream {
                self.stream()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.inner().describe($name, f)
            }
        }
    };
}

half!("ReadHalf", ReadHalf<'_>, self => self.0);
half!("WriteHalf", WriteHalf<'_>, self => self.0);
half!("OwnedReadHalf", OwnedReadHalf, self => &self.stream);
half!("OwnedWriteHalf", OwnedWriteHalf, self => &self.stream);

common_methods!(ReadHalf<'_>, WriteHalf<'_>, OwnedReadHalf, OwnedWriteHalf);
read_methods!(ReadHalf<'_>, OwnedReadHalf);
peek_methods!(ReadHalf<'_>, OwnedReadHalf);
async_read!(ReadHalf<'_>, OwnedReadHalf);
write_methods!(WriteHalf<'_>, OwnedWriteHalf);
async_write!(WriteHalf<'_>, OwnedWriteHalf);
