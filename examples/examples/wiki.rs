//! A wiki as a web API. Who may read it and who may write stands in a policy file: users, groups and resources.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Extension, Router};
use qsocket::QSocketListener;
use qsocket::access::{Directory, Permit};
use qsocket::config::Config;
use qsocket_tower::PeerInfo;
use qsocket_tower::axum::AxumListener;
use qsocket_tower::require_resource::RequireResourceLayer;

/// The pages by their names. Those who write them are trusted not to fill the memory.
type Pages = Arc<RwLock<BTreeMap<String, String>>>;

/// Who may have a stream was asked by the listener. What is asked here, for each request, follows the policy file while
/// the stream is open.
fn wiki(directory: &Arc<dyn Directory>) -> Router {
    let needs = |resource| RequireResourceLayer::new(Arc::clone(directory), resource);
    let reading = Router::new()
        .route("/", get(who))
        .route("/pages", get(list))
        .route("/pages/{name}", get(read))
        .route_layer(needs("wiki"));
    let editing = Router::new().route("/pages/{name}", put(write)).route_layer(needs("editing"));
    let report = Router::new().route("/report", get(report)).route_layer(needs("report"));
    reading.merge(editing).merge(report).with_state(Pages::default())
}

/// What the directory says of who asks.
async fn who(Extension(permit): Extension<Permit>) -> String {
    let Some(user) = permit.user else { return "a principal without a user\n".to_owned() };
    format!("{} of {}; may read by {}\n", user.name, user.groups.join(", "), permit.rule.unwrap_or_default())
}

async fn list(State(pages): State<Pages>) -> String {
    let pages = pages.read().unwrap_or_else(PoisonError::into_inner);
    pages.keys().map(|name| format!("{name}\n")).collect()
}

async fn read(State(pages): State<Pages>, Path(name): Path<String>) -> Result<String, StatusCode> {
    let pages = pages.read().unwrap_or_else(PoisonError::into_inner);
    pages.get(&name).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn write(
    State(pages): State<Pages>,
    Path(name): Path<String>,
    Extension(permit): Extension<Permit>,
    text: String,
) -> StatusCode {
    let author = permit.user.map(|user| user.name).unwrap_or_default();
    let mut pages = pages.write().unwrap_or_else(PoisonError::into_inner);
    pages.insert(name, format!("{text} ({author})\n"));
    StatusCode::NO_CONTENT
}

async fn report(State(pages): State<Pages>) -> String {
    format!("{} pages\n", pages.read().unwrap_or_else(PoisonError::into_inner).len())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).and_then(|argument| argument.parse::<SocketAddr>().ok());
    let Some(address) = address else {
        println!("usage: {} ADDRESS:PORT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let config = Config::load()?;
    let directory =
        config.directory().context("write into the configuration: access = \"access.toml\"")?.clone();
    let listener = QSocketListener::bind_with(config, address).await?;
    let service = wiki(&directory).into_make_service_with_connect_info::<PeerInfo>();
    axum::serve(AxumListener::new(listener), service).await?;
    Ok(())
}
