//! Sends every stream back what it sends.

use std::env;
use std::io;

use tokio::io::AsyncWriteExt as _;

use qsocket::QSocketListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(address) = env::args().nth(1).filter(|argument| !argument.starts_with('-')) else {
        println!("usage: {} ADDRESS:PORT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let listener = QSocketListener::bind(&address).await?;
    println!("listening at {}", listener.local_addr()?);
    loop {
        let (mut stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            match tokio::io::copy(&mut reader, &mut writer).await {
                Ok(bytes) => println!("{peer}: {bytes} bytes"),
                Err(error) => println!("{peer}: {error}"),
            }
            stream.shutdown().await
        });
    }
}
