//! A web service that says hello.

use std::env;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;

#[tokio::main]
async fn main() -> io::Result<()> {
    let Some(address) = env::args().nth(1).and_then(|argument| argument.parse::<SocketAddr>().ok()) else {
        println!("usage: {} ADDRESS:PORT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let router = Router::new()
        .route("/", get(async || "Hello!\n"))
        .route("/{name}", get(async |Path(name): Path<String>| format!("Hello, {name}!\n")));
    let tls = RustlsConfig::from_pem_file("cert.pem", "key.pem").await?;
    axum_server::bind_rustls(address, tls).serve(router.into_make_service()).await
}
