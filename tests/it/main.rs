//! Tests that run over whole transports rather than over one crate.
//!
//! [`behavior`] holds what a user of tokio's `TcpStream` relies on, written once and run over every
//! [`transport::Transport`].

mod access;
mod address;
mod behavior;
mod cancel;
mod catalogue;
mod data;
mod duplex;
mod enrol;
mod exchange;
mod keys;
mod liar;
mod limits;
mod listener;
mod logs;
mod lying;
mod metrics;
mod names;
mod network;
mod networks;
mod options;
mod recovery;
mod register;
mod testing;
mod transfer;
mod transport;

behavior::behavior_suite!(tcp, crate::transport::Tcp);
behavior::behavior_suite!(qsocket, crate::network::OnLoopback);
behavior::behavior_suite!(qsocket_in_memory, crate::network::InMemory);
