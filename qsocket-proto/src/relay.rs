//! The relay: who may send where, and what waits (`docs/protocol.md`, section 7).
//!
//! A relay is a router that may drop, never a pipe that waits: it reads every hop whatever another hop does. The
//! parts are separate, so that a shell with several cores locks them apart:
//!
//! - [`Admission`] counts TCP connections by address, before anybody is authenticated.
//! - [`Router`] knows hops, servers and routes, and says for each frame where it goes.
//! - [`Egress`], one for each hop, holds what waits for that hop's socket.
//! - [`Bucket`], one for each principal with a byte quota, and [`Losses`], one for each hop, hold back who sends too
//!   much.
//!
//! None of them sees a key or opens a payload.

mod admission;
mod egress;
mod quota;
mod router;

pub use admission::{Admission, MAX_HOPS_PER_ADDRESS, TooManyHops, network};
pub use egress::{CONGESTED_EVERY, Congestion, Egress, EgressLimits, HOP_QUEUE, OUTBOX_TARGET, ROUTE_QUEUE};
pub use quota::{
    Bucket, Losses, MAX_BYTES_PER_SECOND, MAX_ROUTES, MIN_BYTES_PER_SECOND, QUOTA_BURST, QUOTA_BURST_TIME,
    Quota,
};
pub use router::{
    Action, ClaimError, HopId, HopInfo, MAX_ADDRESSES, MAX_CONNECTIONS_PER_CLIENT, OpenFacts, REDIAL_AT_MOST,
    ReadHeader, RegisterError, Registration, Router, RouterConfig, Verdict, WAIT_FOR_SERVER, WAITING_BYTES,
    WAITING_BYTES_PER_ROUTE, is_public_unicast,
};
