//! The gRPC service and its client.

use crate::world::{NAME, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_and_a_stream_of_answers() {
    let world = World::start(1);
    let _server = world.server("grpc_server", |address| vec![address.to_string().into()]).await;
    let server = format!("{NAME}:50051");
    let output = world.client("grpc_client", &[&server, "Ada", "3"]).await;
    let expected = "Hello, Ada, you are 1.0.1.\n".repeat(4);
    assert_eq!((output.code, output.out), (0, expected), "{}", output.err);

    let output = world.client("grpc_client", &[&server, "Ada", "1001"]).await;
    assert!(output.code != 0 && output.err.contains("1000 greetings at most"), "{output:?}");
}
