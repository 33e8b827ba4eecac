//! A door to QSocket for programs that know nothing of it: SOCKS 5 on loopback, and Unix sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use qsocket::Endpoint;
use qsocket_examples::proxy::{Forward, Limits, Proxy};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Let other programs reach QSocket servers: `curl --socks5-hostname 127.0.0.1:1080 http://NAME/`.
#[derive(Parser)]
struct Arguments {
    /// Where to answer SOCKS 5; a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1080")]
    listen: SocketAddr,
    /// A Unix socket whose connections all go to one server; may be given several times.
    #[arg(long, value_name = "PATH=NAME:PORT", value_parser = forward)]
    unix: Vec<(PathBuf, String)>,
}

fn forward(text: &str) -> Result<(PathBuf, String), String> {
    let (path, server) = text.rsplit_once('=').ok_or("write PATH=NAME:PORT")?;
    qsocket::resolve::parse_name_port(server).map_err(|error| error.to_string())?;
    Ok((path.into(), server.to_owned()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, unix } = Arguments::parse();
    let endpoint = Endpoint::client(qsocket::config::Config::load()?)?;
    let (limits, stop) = (Limits::default(), CancellationToken::new());
    let mut doors = JoinSet::new();
    let proxy = Proxy::bind(listen).await?;
    println!("answering SOCKS 5 at {}", proxy.local_addr()?);
    doors.spawn(proxy.run(endpoint.clone(), limits, stop.clone()));
    for (path, server) in unix {
        let forward = Forward::bind(&path)?;
        println!("{} leads to {server}", path.display());
        doors.spawn(forward.run(endpoint.clone(), server, limits, stop.clone()));
    }
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    doors.join_all().await;
    endpoint.close().await;
    Ok(())
}
