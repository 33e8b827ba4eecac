//! A web service that says hello.

use std::env;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use qsocket::QSocketListener;
use qsocket_tower::axum::AxumListener;

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(address) = env::args().nth(1).and_then(|argument| argument.parse::<SocketAddr>().ok()) else {
        println!("usage: {} ADDRESS:PORT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let router = Router::new()
        .route("/", get(async || "Hello!\n"))
        .route("/{name}", get(async |Path(name): Path<String>| format!("Hello, {name}!\n")));
    let listener = QSocketListener::bind(address).await?;
    axum::serve(AxumListener::new(listener), router).await
}
