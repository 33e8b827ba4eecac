//! The layers, between clients and handlers that are 25 relays apart.

mod directory;
mod health_shed;
mod identity_headers;
mod require_resource;
mod revocation_guard;
mod together;
