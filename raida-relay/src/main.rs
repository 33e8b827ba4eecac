//! The program `raida-relay`: runs relays of the RAIDA and administers what they know. `docs/relay.md` is its manual.

mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main()
}
