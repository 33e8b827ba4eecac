//! Sockets: exactly the operations that the shells use.

#[cfg(feature = "memory")]
use crate::memory;
use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted at one address; as many as a TCP listener's usual backlog.
pub const BACKLOG: u16 = 1024;

/// Unsent bytes that the kernel takes before it says that the socket is full: enough to keep the wire busy. The rest
/// waits where turns are taken and another path can still be chosen.
#[cfg(any(target_os = "android", target_os = "linux"))]
const NOTSENT_LOWAT: u32 = 128 * 1024;

/// Where the bytes of hops travel.
#[derive(Clone, Debug, Default)]
pub enum Transport {
    /// TCP of the operating system.
    #[default]
    Tcp,
    /// A host in memory.
    #[cfg(feature = "memory")]
    Memory(memory::Host),
}

impl Transport {
    /// Connects to an address.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// Safe: a dropped attempt leaves no connection.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Socket> {
        match self {
            Self::Tcp => TcpStream::connect(to).await.map(Socket::Tcp),
            #[cfg(feature = "memory")]
            Self::Memory(host) => host.connect(to).await.map(Socket::Memory),
        }
    }

    /// Listens at an address, port 0 for a free one. After a listener is gone its address can be taken again at once.
    ///
    /// # Errors
    /// When the address is in use or not of this host.
    ///
    /// # Panics
    /// With TCP, outside of a tokio runtime with its IO driver.
    pub fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        match self {
            Self::Tcp => {
                let socket = match at {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.set_reuseaddr(true)?;
                socket.bind(at)?;
                socket.listen(BACKLOG.into()).map(Listener::Tcp)
            }
            #[cfg(feature = "memory")]
            Self::Memory(host) => host.listen(at).map(Listener::Memory),
        }
    }
}

/// Takes connections.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// At an address in memory.
    #[cfg(feature = "memory")]
    Memory(memory::Listener),
}

impl Listener {
    /// Waits for a connection; gives it with the address that it comes from.
    ///
    /// # Errors
    /// Those of [`TcpListener::accept`].
    ///
    /// # Cancel safety
    /// Safe: a connection is given or stays in the queue.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Socket::Tcp(stream), from))
            }
            #[cfg(feature = "memory")]
            Self::Memory(listener) => {
                let (socket, from) = listener.accept().await?;
                Ok((Socket::Memory(socket), from))
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            #[cfg(feature = "memory")]
            Self::Memory(listener) => Ok(listener.local_addr()),
        }
    }

    /// Refuses connections from now on, whoever still holds it, where the system knows this.
    pub fn shut_down(&self) {
        match self {
            Self::Tcp(listener) => {
                // An error says that it does not listen any more, or that the system cannot.
                let _ = socket2::SockRef::from(listener).shutdown(Shutdown::Both);
            }
            #[cfg(feature = "memory")]
            Self::Memory(listener) => listener.shut_down(),
        }
    }
}

/// One end of a connection.
///
/// Both halves work through `&self`; one task may read while another writes.
#[derive(Debug)]
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection in memory.
    #[cfg(feature = "memory")]
    Memory(memory::Socket),
}

impl Socket {
    /// Sets what hops want: small writes leave at once, and little waits in the kernel.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn tune(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                #[cfg(any(target_os = "android", target_os = "linux"))]
                socket2::SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
                Ok(())
            }
            // It has no settings.
            #[cfg(feature = "memory")]
            Self::Memory(_) => Ok(()),
        }
    }

    /// Waits until a read may give something: bytes, the end or an error. It may still give `WouldBlock`.
    ///
    /// # Errors
    /// Those of [`TcpStream::readable`].
    ///
    /// # Cancel safety
    /// Safe: nothing is read.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            #[cfg(feature = "memory")]
            Self::Memory(socket) => {
                socket.readable().await;
                Ok(())
            }
        }
    }

    /// Waits until a write may take something, or fail. It may still give `WouldBlock`.
    ///
    /// # Errors
    /// Those of [`TcpStream::writable`].
    ///
    /// # Cancel safety
    /// Safe: nothing is written.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            #[cfg(feature = "memory")]
            Self::Memory(socket) => {
                socket.writable().await;
                Ok(())
            }
        }
    }

    /// Reads what is there; `Ok(0)` is the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there, else those of the connection.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => read(stream, buffer),
            #[cfg(feature = "memory")]
            Self::Memory(socket) => socket.try_read(buffer),
        }
    }

    /// Writes as much as is taken at once.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is, else those of the connection.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            #[cfg(feature = "memory")]
            Self::Memory(socket) => socket.try_write(bytes),
        }
    }

    /// The address of this end.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            #[cfg(feature = "memory")]
            Self::Memory(socket) => Ok(socket.local_addr()),
        }
    }

    /// Ends one direction or both now, whoever still holds it.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).shutdown(how),
            #[cfg(feature = "memory")]
            Self::Memory(socket) => {
                socket.shut_down(how);
                Ok(())
            }
        }
    }
}

/// Whether a read that does not fill its buffer has taken all there is, and the system tells of what comes later: edges,
/// as tokio's own streams take them.
const SHORT_IS_ALL: bool = cfg!(any(target_os = "android", target_os = "linux"));

/// As [`TcpStream::try_read`], but a short read also says that there is no more for now. Without that each read would be
/// followed by one in vain.
fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let (mut read, room) = (0, buffer.len());
    let more = stream.try_io(Interest::READABLE, || {
        read = (&*socket2::SockRef::from(stream)).read(buffer)?;
        if SHORT_IS_ALL && (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match more {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}
