//! Sends standard input to an echo server and prints what comes back.

use std::env;
use std::io;

use tokio::io::AsyncWriteExt as _;

use tokio::net::TcpStream;

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(server) = env::args().nth(1).filter(|argument| !argument.starts_with('-')) else {
        println!("usage: {} NAME:PORT <INPUT >OUTPUT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let mut stream = TcpStream::connect(&server).await?;
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let send = async {
        tokio::io::copy(&mut tokio::io::stdin(), &mut writer).await?;
        writer.shutdown().await
    };
    let mut output = tokio::io::stdout();
    tokio::try_join!(send, tokio::io::copy(&mut reader, &mut output))?;
    output.flush().await
}
