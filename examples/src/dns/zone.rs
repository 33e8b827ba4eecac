//! The back end that answers with authority, from a zone file.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use hickory_proto::ProtoError;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{LowerName, Name, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_proto::serialize::txt::{ParseError, Parser};
use hickory_server::net::runtime::TokioTime;
use hickory_server::net::{NetError, xfer::Protocol};
use hickory_server::server::{Request, RequestHandler as _, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponse, ZoneType};

use super::wire::Query;
use super::{Backend, wire};

/// Largest zone file that is read, in bytes. The zone is held in memory, so a wrong path (a disk image, a
/// device) must not fill it.
pub const MAX_ZONE_FILE_LEN: u64 = 64 << 20;

/// Answers from one zone, held in memory. Names outside it are REFUSED.
pub struct Zone {
    origin: Name,
    catalog: Catalog,
}

/// Why a zone file was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The file could not be read.
    #[error("cannot read zone file {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than [`MAX_ZONE_FILE_LEN`].
    #[error("zone file {path} is longer than {MAX_ZONE_FILE_LEN} bytes; is it a zone file?", path = path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The text is no master file (RFC 1035 section 5).
    #[error(
        "not a zone in master file format: {0}; start it with a line like `$ORIGIN example.` and a SOA record"
    )]
    Parse(#[from] ParseError),
    /// There is no SOA record at the origin.
    #[error("the zone has no SOA record at its origin {origin}; add one, or correct the `$ORIGIN` line")]
    NoSoa {
        /// The origin as the file gives it.
        origin: Name,
    },
    /// The records do not make a zone.
    #[error("the records of {origin} do not make a zone: {reason}")]
    Records {
        /// The origin as the file gives it.
        origin: Name,
        /// What is wrong.
        reason: String,
    },
}

impl Zone {
    /// Reads a zone from a master file, which says its origin with `$ORIGIN`. `$INCLUDE` is relative to it.
    ///
    /// # Errors
    /// [`ZoneError`], with the place and what to do.
    pub fn from_file(path: &Path) -> Result<Self, ZoneError> {
        let read = |source| ZoneError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let length = File::open(path)
            .and_then(|file| file.take(MAX_ZONE_FILE_LEN + 1).read_to_string(&mut text))
            .map_err(read)?;
        if length as u64 > MAX_ZONE_FILE_LEN {
            return Err(ZoneError::TooLong { path: path.to_owned() });
        }
        Self::parse(&text, Some(path.to_owned()))
    }

    /// Reads a zone from the text of a master file, which says its origin with `$ORIGIN`.
    ///
    /// # Errors
    /// [`ZoneError`], with the place and what to do.
    pub fn from_text(text: &str) -> Result<Self, ZoneError> {
        Self::parse(text, None)
    }

    /// The name that this zone begins at.
    #[must_use]
    pub const fn origin(&self) -> &Name {
        &self.origin
    }

    fn parse(text: &str, path: Option<PathBuf>) -> Result<Self, ZoneError> {
        let (origin, records) = Parser::new(text, path, None).parse()?;
        let apex = LowerName::new(&origin);
        if !records.keys().any(|key| key.record_type == RecordType::SOA && key.name == apex) {
            return Err(ZoneError::NoSoa { origin });
        }
        let zone: InMemoryZoneHandler =
            InMemoryZoneHandler::new(origin.clone(), records, ZoneType::Primary, AxfrPolicy::Deny)
                .map_err(|reason| ZoneError::Records { origin: origin.clone(), reason })?;
        let mut catalog = Catalog::new();
        catalog.upsert(apex, vec![Arc::new(zone)]);
        Ok(Self { origin, catalog })
    }
}

impl std::fmt::Debug for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zone").field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[async_trait]
impl Backend for Zone {
    async fn answer(&self, query: &Query, from: SocketAddr) -> Bytes {
        let failed = || query.error(ResponseCode::ServFail);
        // The protocol tells hickory how far an answer may reach: on a stream, as far as the length bytes.
        let Ok(request) = Request::from_bytes(query.bytes().to_vec(), from, Protocol::Tcp) else {
            return query.error(ResponseCode::FormErr);
        };
        let answer = Answer::default();
        self.catalog.handle_request::<_, TokioTime>(&request, answer.clone()).await;
        answer.take().filter(|bytes| wire::id_of(bytes) == Some(query.id())).unwrap_or_else(failed)
    }
}

/// Where hickory's catalog puts the encoded answer.
#[derive(Clone, Default)]
struct Answer(Arc<Mutex<Option<Bytes>>>);

impl Answer {
    fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl ResponseHandler for Answer {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::with_capacity(usize::from(wire::OUR_UDP_LEN));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(u16::MAX);
        let info = response.destructive_emit(&mut encoder).map_err(|e: ProtoError| NetError::from(e))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.into());
        Ok(info)
    }
}
