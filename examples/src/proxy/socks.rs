//! SOCKS 5, RFC 1928: the request for a connection, and its reply.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use qsocket::resolve::NameError;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const VERSION: u8 = 5;
/// The method "no authentication required", and the answer that none of the client's methods will do.
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN: u8 = 3;
const IPV6: u8 = 4;

/// What is replied to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reply {
    Succeeded = 0,
    /// The configuration does not know the name.
    NotAllowed = 2,
    /// The server does not answer, or the relays do not.
    HostUnreachable = 4,
    /// The server answers, and refuses.
    Refused = 5,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

impl Reply {
    /// What is replied where connecting failed.
    pub(super) fn to(error: &io::Error) -> Self {
        if qsocket::refusal(error).is_some() {
            Self::Refused
        } else if error.get_ref().is_some_and(|inner| inner.is::<NameError>()) {
            Self::NotAllowed
        } else {
            Self::HostUnreachable
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads the greeting and the request, and gives what to connect to as `name:port`. What is not supported is told
/// the client.
pub(super) async fn request<S: AsyncRead + AsyncWrite + Unpin>(client: &mut S) -> io::Result<String> {
    version(client).await?;
    let mut methods = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(invalid("the SOCKS client wants to authenticate; have it use no authentication"));
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;

    version(client).await?;
    let command = client.read_u8().await?;
    if client.read_u8().await? != 0 {
        return Err(invalid("the reserved byte of a SOCKS request is not 0"));
    }
    let host = match client.read_u8().await? {
        IPV4 => Ipv4Addr::from_bits(client.read_u32().await?).to_string(),
        IPV6 => format!("[{}]", Ipv6Addr::from_bits(client.read_u128().await?)),
        DOMAIN => {
            let mut name = vec![0; client.read_u8().await?.into()];
            client.read_exact(&mut name).await?;
            // What is not UTF-8 is no name that the configuration knows.
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => {
            reply(client, Reply::AddressNotSupported).await?;
            return Err(invalid("a SOCKS client gave an address of an unknown type"));
        }
    };
    let port = client.read_u16().await?;
    if command != CONNECT {
        reply(client, Reply::CommandNotSupported).await?;
        return Err(invalid("a SOCKS client asked for something else than CONNECT"));
    }
    Ok(format!("{host}:{port}"))
}

async fn version<S: AsyncRead + Unpin>(client: &mut S) -> io::Result<()> {
    match client.read_u8().await? {
        VERSION => Ok(()),
        4 => Err(invalid("the client speaks SOCKS 4; have it use SOCKS 5 with names, socks5h")),
        _ => Err(invalid("the client does not speak SOCKS")),
    }
}

/// Tells the client how it went; the bound address, which QSocket does not have, is 0.0.0.0:0.
pub(super) async fn reply<S: AsyncWrite + Unpin>(client: &mut S, reply: Reply) -> io::Result<()> {
    client.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of these bytes, and what is answered.
    async fn ask(bytes: &[u8]) -> (io::Result<String>, Vec<u8>) {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let request = request(&mut server).await;
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        (request, answer)
    }

    #[tokio::test]
    async fn names_and_addresses_are_passed_on() {
        let tail = |bytes: &[u8]| [&[5, 1, 0, 5, 1, 0], bytes].concat();
        for (bytes, expected) in [
            (tail(b"\x03\x0bweb.example\x01\xbb"), "web.example:443"),
            (tail(&[1, 10, 0, 0, 1, 0, 80]), "10.0.0.1:80"),
            (tail(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 53]), "[::1]:53"),
        ] {
            let (request, answer) = ask(&bytes).await;
            assert_eq!((request.unwrap().as_str(), answer.as_slice()), (expected, &[5, 0][..]));
        }
    }

    #[tokio::test]
    async fn what_is_not_supported_is_told() {
        let (request, answer) = ask(&[5, 1, 2]).await;
        assert_eq!((request.is_err(), answer), (true, vec![5, 0xff]));
        // BIND, and an address of type 2.
        for (bytes, code) in [(&[5, 2, 0, 1, 1, 2, 3, 4, 0, 80][..], 7), (&[5, 1, 0, 2][..], 8)] {
            let (request, answer) = ask(&[&[5, 2, 2, 0], bytes].concat()).await;
            assert_eq!((request.is_err(), answer), (true, vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]));
        }
        // HTTP, which a web page can send to loopback; SOCKS 4; a reserved byte that is used.
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[4, 1, 0, 80], &[5, 1, 0, 5, 1, 1, 1]] {
            assert_eq!(ask(bytes).await.0.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn a_request_that_breaks_off_is_an_error() {
        let whole = b"\x05\x01\x00\x05\x01\x00\x03\x0bweb.example\x01\xbb";
        for length in 0..whole.len() {
            let (request, _) = ask(&whole[..length]).await;
            assert_eq!(request.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{length}");
        }
    }
}
