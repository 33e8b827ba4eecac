//! What programs put around a stream works unchanged.

use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec, LinesCodec};

use crate::data::Pattern;
use crate::transport::Transport;

pub(crate) async fn lines<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    let (mut client, mut server) =
        (Framed::new(client, LinesCodec::new()), Framed::new(server, LinesCodec::new()));
    for number in 0..100 {
        let line = "ä".repeat(number) + &number.to_string();
        client.send(&line).await.map_err(io::Error::other)?;
        let heard = server.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
        assert_eq!(heard, line);
        server.send(heard).await.map_err(io::Error::other)?;
        let back = client.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
        assert_eq!(back, line);
    }
    SinkExt::<String>::close(&mut client).await.map_err(io::Error::other)?;
    assert!(server.next().await.is_none());
    Ok(())
}

pub(crate) async fn long_frames_in_both_directions<T: Transport>(net: T) -> io::Result<()> {
    // Shorter and longer than a block and than the windows.
    const LENGTHS: [usize; 7] = [0, 1, 262_130, 262_144, 1, 6_000_000, 3];
    let (client, server) = net.pair().await?;
    let codec = || LengthDelimitedCodec::builder().max_frame_length(8 << 20).new_codec();
    let pattern = Pattern::new(60);
    let sides = [Framed::new(client, codec()), Framed::new(server, codec())];
    let exchanges = sides.map(|framed| async {
        let (mut sink, mut stream) = framed.split();
        let sending = async {
            for (position, len) in LENGTHS.into_iter().enumerate() {
                sink.send(Bytes::from(pattern.copy(position, len))).await?;
            }
            sink.close().await
        };
        let receiving = async {
            for (position, len) in LENGTHS.into_iter().enumerate() {
                let frame = stream.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
                assert_eq!(frame.len(), len);
                pattern.check(position, &frame);
            }
            assert!(stream.next().await.is_none());
            Ok(())
        };
        tokio::try_join!(sending, receiving).map(drop)
    });
    let [one, other] = exchanges;
    tokio::try_join!(one, other)?;
    Ok(())
}

pub(crate) async fn buffered_stream<T: Transport>(net: T) -> io::Result<()> {
    let (client, server) = net.pair().await?;
    let (mut client, mut server) = (BufStream::new(client), BufStream::new(server));
    let mut line = String::new();
    for number in 0..100 {
        client.write_all(format!("{number}\n").as_bytes()).await?;
        client.flush().await?;
        line.clear();
        server.read_line(&mut line).await?;
        server.write_all(line.as_bytes()).await?;
        server.flush().await?;
        line.clear();
        client.read_line(&mut line).await?;
        assert_eq!(line, format!("{number}\n"));
    }
    client.write_all(b"unflushed").await?;
    client.shutdown().await?;
    line.clear();
    assert_eq!(server.read_line(&mut line).await?, 9);
    assert_eq!(line, "unflushed");
    Ok(())
}
