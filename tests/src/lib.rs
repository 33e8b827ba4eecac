//! What the programs of this crate share: processes, and a RAIDA that is made of them.

pub mod process;
