//! Programs that show QSocket at work.
//!
//! The code that an example's `main` calls lives here, so that it can be read and tested apart from its
//! command line. [`dns`] is the first of them: a DNS server, a small `dig` and a local stub resolver, all over
//! an ordinary byte stream.

pub mod dns;
