//! DNS end to end over loopback: server, client and stub, with real DNS servers and a real `dig` at the ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authoritative;
mod dig;
mod limits;
mod membership;
mod qsocket;
mod raida;
mod stub;
mod support;
mod upstream;
