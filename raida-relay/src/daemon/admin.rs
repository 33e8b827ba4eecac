//! The admin port: health, metrics and status over HTTP/1.1, on loopback.
//!
//! It changes nothing and asks for no password, so whoever has a shell on the machine may read it, and nobody else: it
//! listens on loopback only, and answers only requests for a loopback name, so that a web page that resolves its own
//! name to 127.0.0.1 (DNS rebinding) gets nothing out of a browser on the machine.

use super::metrics;
use super::status::Source;
use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Admin connections at once: a scraper, a supervisor and some people. Further ones wait in the kernel, at most
/// [`CONNECTION_TIME`] if all are stuck.
const MAX_CONNECTIONS: usize = 16;

/// From accepting a connection to the end of its one answer. Answers are a few tens of KiB on loopback.
const CONNECTION_TIME: Duration = Duration::from_secs(5);

/// To read the head of a request, which comes in one piece from every real client.
const HEAD_TIME: Duration = Duration::from_secs(2);

/// What is read of a connection at most before its head must be complete; the least that the HTTP library takes.
const HEAD_BYTES: usize = 8 * 1024;

/// How long the port rests after an error that is not about one connection, such as too many open files.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Binds the admin port.
///
/// # Errors
/// When `address` is not loopback, or cannot be bound.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        is_loopback(address.ip()),
        "the admin port {address} is not on loopback: write 127.0.0.1 or [::1] under [admin] listen"
    );
    TcpListener::bind(address).await.with_context(|| {
        format!("the admin port {address} cannot be bound; choose another under [admin] listen")
    })
}

/// Whether only this machine reaches an address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Answers at the admin port, for ever.
///
/// # Cancel safety
/// Dropping it closes the port and all its connections.
pub(crate) async fn serve(listener: TcpListener, source: Arc<dyn Source>) {
    let app = app(source);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                connections.spawn(async move {
                    answer(stream, app).await;
                    drop(place);
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "accepting at the admin port failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Serves one request. Errors are the peer's matter.
async fn answer(stream: TcpStream, app: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    if let Ok(Err(e)) = timeout(CONNECTION_TIME, connection).await {
        tracing::debug!(error = %e, "an admin connection failed");
    }
}

struct Admin {
    source: Arc<dyn Source>,
    registry: Registry,
}

fn app(source: Arc<dyn Source>) -> Router {
    let registry = metrics::registry(Arc::clone(&source));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(Arc::new(Admin { source, registry }))
        .layer(middleware::from_fn(only_loopback_names))
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    match metrics::text(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be written: {e}\n"))
            .into_response(),
    }
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    match admin.source.status().ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    match serde_json::to_string(&admin.source.status()) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the status cannot be written: {e}\n"))
            .into_response(),
    }
}

/// Answers requests for `localhost` and loopback addresses, and refuses those for any other name.
async fn only_loopback_names(request: Request, next: Next) -> Response {
    if names_loopback(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let how = "this port answers to localhost, 127.0.0.1 and [::1] only: use one of them in the address\n";
    (StatusCode::FORBIDDEN, how).into_response()
}

fn names_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    // A request to a proxy has a second name.
    host.as_ref().is_some_and(is_loopback_name) && uri.authority().is_none_or(is_loopback_name)
}

fn is_loopback_name(name: &Authority) -> bool {
    let host = name.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || literal.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests;
