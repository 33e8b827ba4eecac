//! A relay of the RAIDA on tokio.
