//! Serves the files of a folder as a web site.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use clap::Parser;
use qsocket::QSocketListener;
use qsocket_tower::axum::AxumListener;
use tower_http::services::ServeDir;

/// Serve the files of a folder over QSocket, for `curl` and browsers behind `local_proxy`.
#[derive(Parser)]
struct Arguments {
    /// The folder, which may have an `index.html`.
    folder: PathBuf,
    /// Where to listen: this port and the 24 that follow, one for each relay.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { folder, listen } = Arguments::parse();
    anyhow::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    let listener = QSocketListener::bind(listen).await?;
    println!("{} is served at {listen}", folder.display());
    let site = Router::new().fallback_service(ServeDir::new(folder));
    axum::serve(AxumListener::new(listener), site).await?;
    Ok(())
}
