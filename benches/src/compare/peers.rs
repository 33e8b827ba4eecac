//! The transports that are compared.

pub(crate) mod plain;
pub(crate) mod qsocket;
pub(crate) mod tls;
