//! A DNS server behind a QSocket listener: authoritative for a zone file, or in front of an ordinary DNS server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use qsocket::QSocketListener;
use qsocket_examples::dns::Backend;
use qsocket_examples::dns::server::{Limits, serve};
use qsocket_examples::dns::upstream::Upstream;
use qsocket_examples::dns::zone::Zone;
use tokio_util::sync::CancellationToken;

/// Answer DNS over QSocket, from a zone file or from an ordinary DNS server.
#[derive(Parser)]
struct Arguments {
    /// Zone file in master file format (RFC 1035).
    #[arg(required_unless_present = "upstream", conflicts_with = "upstream")]
    zone: Option<PathBuf>,
    /// Ask this ordinary DNS server instead, over UDP and TCP.
    #[arg(long, value_name = "ADDRESS:PORT")]
    upstream: Option<SocketAddr>,
    /// Where to listen: this port and the 24 that follow, one for each relay. `raida-relay init --servers 2` puts its
    /// second server here.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7100")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { zone, upstream, listen } = Arguments::parse();
    let backend: Arc<dyn Backend> = match (zone, upstream) {
        (Some(file), _) => Arc::new(Zone::from_file(&file)?),
        (None, Some(server)) => Arc::new(Upstream::new(server)),
        (None, None) => anyhow::bail!("give a zone file or --upstream"),
    };
    let listener = QSocketListener::bind(listen).await?;
    println!("listening at {}", listener.local_addr()?);
    let stop = CancellationToken::new();
    let server = serve(listener, backend, Limits::default(), stop.clone());
    let interrupted = async {
        let outcome = tokio::signal::ctrl_c().await;
        stop.cancel();
        outcome
    };
    tokio::try_join!(server, interrupted)?;
    Ok(())
}
