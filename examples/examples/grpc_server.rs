//! A gRPC service that greets whoever calls, by the principal that 16 relays vouch for.

use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::{Stream, stream};
use qsocket::QSocketListener;
use qsocket_examples::greeter::greeter_server::{Greeter, GreeterServer};
use qsocket_examples::greeter::{Greeting, Who};
use qsocket_tower::PeerInfo;
use qsocket_tower::tonic::Incoming;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

struct Polite;

/// What a call may ask for: more would be no greeting any more.
const MOST: u32 = 1000;

#[tonic::async_trait]
impl Greeter for Polite {
    async fn greet(&self, request: Request<Who>) -> Result<Response<Greeting>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(greeting(&request.into_inner().name, &caller)))
    }

    type GreetOftenStream = Pin<Box<dyn Stream<Item = Result<Greeting, Status>> + Send>>;

    async fn greet_often(&self, request: Request<Who>) -> Result<Response<Self::GreetOftenStream>, Status> {
        let caller = caller(&request)?;
        let Who { name, times } = request.into_inner();
        if times > MOST {
            return Err(Status::invalid_argument(format!("ask for {MOST} greetings at most")));
        }
        let greetings = (0..times).map(move |_| Ok(greeting(&name, &caller)));
        Ok(Response::new(Box::pin(stream::iter(greetings))))
    }
}

/// Who calls, as the relays say and not as the caller does.
fn caller(request: &Request<Who>) -> Result<String, Status> {
    let peer = request.extensions().get::<PeerInfo>();
    peer.map(|peer| peer.principal.to_string()).ok_or_else(|| Status::internal("served without peers"))
}

fn greeting(name: &str, caller: &str) -> Greeting {
    Greeting { text: format!("Hello, {name}, you are {caller}.") }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).and_then(|argument| argument.parse::<SocketAddr>().ok());
    let Some(address) = address else {
        println!("usage: {} ADDRESS:PORT", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let incoming = Incoming::new(QSocketListener::bind(address).await?);
    Server::builder().add_service(GreeterServer::new(Polite)).serve_with_incoming(incoming).await?;
    Ok(())
}
