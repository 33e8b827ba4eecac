//! A small `dig` across 25 relays.

use std::env;
use std::io::{stderr, stdout};
use std::process::ExitCode;

use qsocket::QSocketStream;
use qsocket_examples::dns::client::{USAGE, run};

/// The server that is asked unless one is given.
const SERVER: &str = "server-2.example:7100";

#[tokio::main]
async fn main() -> ExitCode {
    if env::args_os().any(|argument| argument == "-h" || argument == "--help") {
        println!("{USAGE}\n\nSERVER is a name that the configuration knows; {SERVER} unless given.");
        return ExitCode::SUCCESS;
    }
    run(env::args_os().skip(1), SERVER, QSocketStream::connect, &mut stdout(), &mut stderr()).await.into()
}
