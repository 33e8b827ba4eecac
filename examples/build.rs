//! Writes client and server of the gRPC service that the module `greeter` describes.
//!
//! With `tonic-prost-build` they come from a `.proto` file, by way of the program `protoc`. Here the service is said in
//! Rust, so that a build needs no further program.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::greeter::Who")
            .output_type("crate::greeter::Greeting")
            .codec_path("tonic_prost::ProstCodec")
    };
    let greeter = Service::builder()
        .name("Greeter")
        .package("greeter")
        .comment("Greets.")
        .method(method("greet", "Greet").comment("Greets once.").build())
        .method(
            method("greet_often", "GreetOften")
                .comment("Greets as often as asked.")
                .server_streaming()
                .build(),
        )
        .build();
    Builder::new().compile(&[greeter]);
    println!("cargo::rerun-if-changed=build.rs");
}
