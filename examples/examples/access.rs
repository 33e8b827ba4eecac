//! Checks a policy file, and says why it decides as it does.

use std::env;
use std::io::{stderr, stdout};
use std::process::ExitCode;

use qsocket_examples::access::run;

fn main() -> ExitCode {
    run(env::args().skip(1), &mut stdout(), &mut stderr()).into()
}
