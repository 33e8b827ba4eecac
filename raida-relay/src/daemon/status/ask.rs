//! Asks the admin port of a running program.

use crate::daemon::status::Status;
use anyhow::Context;
use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// From dialling to the last byte of the answer; as long as the admin port gives a connection.
const ASK_TIME: Duration = Duration::from_secs(5);

/// What is read of an answer: twenty times that of 25 relays.
const MAX_ANSWER: usize = 1024 * 1024;

/// Asks the program whose admin port is `address` how it stands.
///
/// # Errors
/// When nobody answers there, or something else than this program; says what to do.
pub(crate) async fn ask(address: SocketAddr) -> anyhow::Result<Status> {
    let answer = timeout(ASK_TIME, get(address)).await;
    let body = answer.map_err(|_| anyhow::anyhow!("no answer within {} s", ASK_TIME.as_secs())).flatten();
    let status = body.and_then(|body| serde_json::from_slice(&body).context("the answer is not a status"));
    status.with_context(|| {
        format!(
            "no relay program answers at {address}: start it with `raida-relay run`, and compare this address with \
             [admin] listen in its configuration"
        )
    })
}

async fn get(address: SocketAddr) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get("/status").header(header::HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let response = sender.send_request(request).await?;
        anyhow::ensure!(response.status() == StatusCode::OK, "the answer is {}", response.status());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok(body.map_err(|e| anyhow::anyhow!(e))?.to_bytes())
    };
    tokio::pin!(answer);
    // A connection that ends has handed over its answer, or the error that the answer then is.
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
