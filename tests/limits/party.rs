//! The server, the client with many streams, and the storm, each in a process of its own.

use crate::many;
use anyhow::Result;
use clap::Subcommand;
use qsocket::{QSocketListener, QSocketStream};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A stream of this name sends back what it reads.
pub(crate) const ECHO: &str = "echo";

/// A stream of this name sends for ever.
pub(crate) const BLAST: &str = "blast";

/// What a process is.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Takes streams.
    #[command(hide = true)]
    Serve {
        /// Where to listen.
        address: SocketAddr,
    },
    /// Opens many streams, lets them lie, and uses them again.
    #[command(hide = true)]
    Idle {
        /// The server.
        address: SocketAddr,
        /// How many.
        streams: usize,
    },
    /// 25 relays in memory, and many clients that come back at once.
    #[command(hide = true)]
    Storm {
        /// How many.
        clients: usize,
        /// Seconds that the relays are away.
        away: u64,
    },
}

impl Role {
    /// As arguments of this program.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Serve { address } => vec!["serve".to_owned(), address.to_string()],
            Self::Idle { address, streams } => {
                vec!["idle".to_owned(), address.to_string(), streams.to_string()]
            }
            Self::Storm { clients, away } => vec!["storm".to_owned(), clients.to_string(), away.to_string()],
        }
    }
}

pub(crate) fn run(role: Role) -> Result<()> {
    if let Role::Storm { clients, away } = role {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
        return runtime.block_on(many::weather(clients, away));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match role {
            Role::Serve { address } => serve(address).await,
            Role::Idle { address, streams } => many::idle(address, streams).await,
            Role::Storm { .. } => Ok(()),
        }
    })
}

async fn serve(address: SocketAddr) -> Result<()> {
    let listener = QSocketListener::bind(address).await?;
    listener.endpoint().hops_up(25).await;
    println!("listening");
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve_stream(stream));
    }
}

/// Whatever ends it, ends it.
async fn serve_stream(mut stream: QSocketStream) {
    match stream.resource() {
        ECHO => {
            let mut buffer = [0; 256];
            while let Ok(n) = stream.read(&mut buffer).await
                && n > 0
                && stream.write_all(&buffer[..n]).await.is_ok()
            {}
        }
        BLAST => while stream.write_all(&[7; 16_384]).await.is_ok() {},
        // It is neither read nor let go of.
        _ => std::future::pending().await,
    }
}
