//! tonic: many calls, a long stream, and who calls; with a codec of plain bytes, so that nothing is generated.

use crate::network::{NAME, Network, start};
use axum::http;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use qsocket::QSocketListener;
use qsocket_tower::PeerInfo;
use qsocket_tower::hyper::Connector;
use qsocket_tower::tonic::Incoming;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};

const CHUNK: usize = 64 * 1024;
/// 100 MiB.
pub(crate) const CHUNKS: usize = 1600;
const CALLS: usize = 10_000;
/// Calls at a time.
const AT_ONCE: usize = 64;

/// Messages as they are.
#[derive(Clone, Copy, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

/// Answers with the caller's principal and what it said.
#[derive(Clone)]
struct Echo;

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let peer = request.extensions().get::<PeerInfo>().unwrap();
        let mut answer = format!("{} ", peer.principal).into_bytes();
        answer.extend(request.get_ref());
        ready(Ok(Response::new(answer.into())))
    }
}

/// Chunk `n` is filled with this.
fn filling(n: usize) -> u8 {
    (n % 251) as u8
}

#[derive(Clone)]
struct Many;

impl ServerStreamingService<Bytes> for Many {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: Request<Bytes>) -> Self::Future {
        let chunks = (0..CHUNKS).map(|n| Ok(Bytes::from(vec![filling(n); CHUNK])));
        ready(Ok(Response::new(Box::pin(stream::iter(chunks)))))
    }
}

#[derive(Clone)]
pub(crate) struct Service;

impl tower_service::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Plain);
            Ok(match request.uri().path() {
                "/test.Test/Echo" => grpc.unary(Echo, request).await,
                "/test.Test/Many" => grpc.server_streaming(Many, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

type Served = (oneshot::Sender<()>, JoinHandle<Result<(), tonic::transport::Error>>);

fn serve(listener: QSocketListener) -> Served {
    let (stop, stopped) = oneshot::channel();
    let signal = async { stopped.await.unwrap_or_default() };
    let server = Server::builder().serve_with_incoming_shutdown(Service, Incoming::new(listener), signal);
    (stop, tokio::spawn(server))
}

pub(crate) async fn channel(network: &Network) -> Channel {
    let endpoint = Endpoint::try_from(format!("http://{NAME}")).unwrap();
    endpoint.connect_with_connector(Connector::new(network.client.clone())).await.unwrap()
}

pub(crate) async fn unary(channel: Channel, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static(path);
    Ok(grpc.unary(Request::new(message), path, Plain).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_calls() {
    let (network, listener) = start().await;
    let (stop, server) = serve(listener);
    let channel = channel(&network).await;
    let principal = network.client_principal;
    let answered = stream::iter(0..CALLS)
        .map(|n| {
            let channel = channel.clone();
            async move {
                let answer = unary(channel, "/test.Test/Echo", n.to_string().into()).await.unwrap();
                assert_eq!(answer, format!("{principal} {n}"));
            }
        })
        .buffer_unordered(AT_ONCE)
        .count()
        .await;
    assert_eq!(answered, CALLS);
    let other = unary(channel, "/test.Test/Other", Bytes::new()).await;
    assert_eq!(other.unwrap_err().code(), Code::Unimplemented);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_100_mib() {
    let (network, listener) = start().await;
    let (_stop, _server) = serve(listener);
    let mut grpc = tonic::client::Grpc::new(channel(&network).await);
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static("/test.Test/Many");
    let response = grpc.server_streaming(Request::new(Bytes::new()), path, Plain).await.unwrap();
    let mut chunks = response.into_inner();
    let mut count = 0;
    while let Some(chunk) = chunks.message().await.unwrap() {
        assert!(chunk.len() == CHUNK && chunk.iter().all(|byte| *byte == filling(count)), "chunk {count}");
        count += 1;
    }
    assert_eq!(count, CHUNKS);
}
