//! The transports that are compared.

pub(crate) mod haproxy;
mod late;
pub(crate) mod plain;
pub(crate) mod qsocket;
pub(crate) mod quic;
pub(crate) mod tls;
