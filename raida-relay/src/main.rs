//! The program `raida-relay`: asks a running relay how it stands. `docs/operations.md` says how relays are operated.

mod daemon;

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main()
}
