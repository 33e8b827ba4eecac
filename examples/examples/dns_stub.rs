//! The local stub: answers ordinary DNS on UDP and TCP, over one QSocket stream to a DNS server far away, and names under
//! `.raida` by asking all relays.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Parser;
use qsocket::Endpoint;
use qsocket::config::Config;
use qsocket_examples::dns::Backend;
use qsocket_examples::dns::raida::Raida;
use qsocket_examples::dns::stub::{Stub, StubConfig};
use tokio_util::sync::CancellationToken;

/// Answer ordinary DNS on this machine by asking a DNS server across 25 relays, and the relays about names under .raida.
#[derive(Parser)]
struct Arguments {
    /// Where to answer DNS, over UDP and TCP; a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5353")]
    listen: SocketAddr,
    /// The DNS server, by a name that the configuration knows.
    #[arg(long, value_name = "NAME:PORT", default_value = "server-2.example:7100")]
    server: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, server } = Arguments::parse();
    qsocket::resolve::parse_name_port(&server)?;
    let client = Endpoint::client(Config::load()?)?;
    let stub = Stub::bind(listen).await?;
    println!("answering DNS at {}", stub.local_addr());
    let stop = CancellationToken::new();
    let front = |carried| -> Arc<dyn Backend> { Arc::new(Raida::new(client.clone(), carried)) };
    let connector = {
        let client = client.clone();
        move || {
            let (client, server) = (client.clone(), server.clone());
            async move { client.connect(server).await }
        }
    };
    let stub = stub.run_behind(front, connector, StubConfig::default(), stop.clone());
    let interrupted = async {
        let outcome = tokio::signal::ctrl_c().await;
        stop.cancel();
        outcome
    };
    tokio::try_join!(stub, interrupted)?;
    Ok(())
}
