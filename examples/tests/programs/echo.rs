//! The echo programs.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use crate::world::{NAME, Output, World, example, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_comes_back() {
    let world = World::start(1);
    let server = world.server("echo_server", |address| vec![address.to_string().into()]).await;
    let mut client = example("echo_client");
    client.arg(format!("{NAME}:{}", server.address.port())).env("QSOCKET_CONFIG", world.client_config(1));
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sent: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
    let mut input = client.stdin.take().unwrap();
    let send = async {
        input.write_all(sent.as_bytes()).await.unwrap();
        drop(input);
    };
    let ((), output) = soon(async { tokio::join!(send, client.wait_with_output()) }).await;
    let output = Output::from(output.unwrap());
    assert!(output == Output { code: 0, out: sent, err: String::new() }, "{} {}", output.code, output.err);
}
