//! Servers that know nothing of QSocket: found, started, and put behind a listener.

pub(crate) use crate::server::{absent, wait_for};
use qsocket::QSocketListener;
use std::io;
use std::path::PathBuf;
use tokio::io::copy_bidirectional;
use tokio::net::UnixStream;

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
