//! Programs that show QSocket at work.
//!
//! The code that an example's `main` calls lives here, so that it can be read and tested apart from its
//! command line. [`dns`] is the first of them: a DNS server, a small `dig` and a local stub resolver, all over
//! an ordinary byte stream. [`demo`] runs them across 25 relays and stops relays meanwhile; [`local`] sets up the
//! 25 relays. [`proxy`] lets programs that know SOCKS or Unix sockets, and nothing of QSocket, use it.
//! [`greeter`] is a gRPC service.

pub mod access;
pub mod demo;
pub mod dns;
pub mod greeter;
pub mod local;
pub mod proxy;
