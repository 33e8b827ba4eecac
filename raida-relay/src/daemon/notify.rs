//! Word to the service manager (`sd_notify(3)`): one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Every relay listens, or listens again after [`State::Reloading`].
    Ready,
    /// The configuration is read again.
    Reloading,
    /// The relays are stopping.
    Stopping,
}

impl State {
    fn message(self) -> &'static [u8] {
        match self {
            Self::Ready => b"READY=1",
            Self::Reloading => b"RELOADING=1",
            Self::Stopping => b"STOPPING=1",
        }
    }
}

/// Tells the service manager, if the process was started by one. Never blocks.
///
/// A failure is logged and changes nothing: the manager's own time limits deal with a service that says nothing.
pub(crate) fn notify(state: State) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(e) = send(&socket, state)
    {
        tracing::warn!(error = %e, ?state, "the service manager was not told; check NOTIFY_SOCKET");
    }
}

fn send(to: &OsStr, state: State) -> io::Result<()> {
    let address = match to.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.message(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        let mut buffer = [0; 64];
        let n = socket.recv(&mut buffer).unwrap();
        buffer[..n].to_vec()
    }

    #[test]
    fn a_socket_in_a_folder_and_an_abstract_one_get_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), State::Ready).unwrap();
        assert_eq!(received(&socket), b"READY=1");
        send(path.as_os_str(), State::Stopping).unwrap();
        assert_eq!(received(&socket), b"STOPPING=1");

        let name = path.to_str().unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        send(OsStr::new(&format!("@{name}")), State::Reloading).unwrap();
        assert_eq!(received(&socket), b"RELOADING=1");
        assert!(send(folder.path().join("nobody").as_os_str(), State::Ready).is_err());
    }
}
