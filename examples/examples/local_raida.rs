//! Runs the 25 relays of a RAIDA on this machine, with keys and configurations for an echo server, a DNS server and
//! a client in other processes.

use std::path::PathBuf;

use clap::Parser;
use qsocket_examples::local::{Raida, SERVICES};

/// Run 25 relays on 127.0.0.1 and write keys and configurations for servers and clients of other processes.
#[derive(Parser)]
struct Arguments {
    /// Port of relay 0; the others take the 24 ports that follow.
    #[arg(long, default_value_t = 50000)]
    base: u16,
    /// Folder for keys and configurations; files of an earlier run are replaced.
    #[arg(long, default_value = "target/raida")]
    folder: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { base, folder } = Arguments::parse();
    let raida = Raida::start(&folder, base)?;
    let addresses = raida.relays.addresses();
    println!("25 relays run at {} to {}. Ctrl-C ends them.", addresses[0], addresses[24].port());
    for (service, file) in SERVICES.iter().zip(&raida.servers) {
        println!(
            "\nThe server that clients call {}:{} listens at 127.0.0.1:{}:",
            service.name, service.port, service.port
        );
        println!("    export QSOCKET_CONFIG={}", std::path::absolute(file)?.display());
    }
    println!("\nClients:\n    export QSOCKET_CONFIG={}", std::path::absolute(&raida.client)?.display());
    tokio::signal::ctrl_c().await?;
    raida.relays.stop().await;
    Ok(())
}
