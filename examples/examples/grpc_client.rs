//! Has a gRPC service greet somebody, once and then a few times more.

use qsocket::Endpoint;
use qsocket::config::Config;
use qsocket_examples::greeter::Who;
use qsocket_examples::greeter::greeter_client::GreeterClient;
use qsocket_tower::hyper::Connector;
use tonic::transport::Channel;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, name, times] = arguments.as_slice() else {
        println!("usage: {} NAME:PORT WHO TIMES", env!("CARGO_CRATE_NAME"));
        return Ok(());
    };
    let who = Who { name: name.clone(), times: times.parse()? };
    let endpoint = Endpoint::client(Config::load()?)?;
    let channel = Channel::from_shared(format!("http://{server}"))?;
    let channel = channel.connect_with_connector(Connector::new(endpoint.clone())).await?;

    let mut greeter = GreeterClient::new(channel);
    println!("{}", greeter.greet(who.clone()).await?.into_inner().text);
    let mut greetings = greeter.greet_often(who).await?.into_inner();
    while let Some(greeting) = greetings.message().await? {
        println!("{}", greeting.text);
    }
    drop(greeter);
    endpoint.close().await;
    Ok(())
}
