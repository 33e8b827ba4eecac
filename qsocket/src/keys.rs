//! Keys: their files, the folder that holds them, that folder while endpoints use it ([`LiveKeys`]), and asking the
//! relays whether a RAIDA key is theirs ([`verify`]).
//!
//! `docs/keys.md` is the manual, `docs/configuration.md` describes the files.

pub mod enrol;
mod live;
pub mod rotate;
pub mod verify;

pub(crate) use live::Keys;
pub use live::LiveKeys;
pub use qsocket_files::keys::*;
