//! Servers that know nothing of QSocket: found, started, and put behind a listener.

use qsocket::QSocketListener;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;

/// Says how to install what is absent, or fails where it must not be.
pub(crate) fn absent(program: &str, package: &str) {
    let required = std::env::var_os("QSOCKET_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    assert!(!required, "{program} is required by QSOCKET_REQUIRE_CLIENTS=1: apt-get install {package}");
    // Not by `eprintln!`, which the test harness would keep to itself.
    let _unheard = writeln!(io::stderr(), "skipped: apt-get install {package}");
}

/// Waits for a line of a log that contains `ready`, and has the rest read, so that it never fills up.
pub(crate) fn wait_for(log: impl Read + Send + 'static, ready: &str) {
    let mut lines = BufReader::new(log).lines();
    loop {
        let line = lines.next().expect("the server ended; its log is above").unwrap();
        println!("{line}");
        if line.contains(ready) {
            break;
        }
    }
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
}

/// Every stream of `listener` becomes a connection to the server at `socket`. Ends with an error of the listener.
pub(crate) async fn gateway(listener: QSocketListener, socket: PathBuf) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let socket = socket.clone();
        tokio::spawn(async move {
            let mut server = UnixStream::connect(&socket).await?;
            copy_bidirectional(&mut stream, &mut server).await
        });
    }
}
