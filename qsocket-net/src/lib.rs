//! What the shells of QSocket take from outside. Endpoints and relays use it alike.

pub mod clock;
