//! Keys: secrets, key derivation, sealing, and the schedule that leads from one secret to all others.

pub mod secret;
