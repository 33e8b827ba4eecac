//! A gRPC service that greets: its messages, and its client and server as `build.rs` writes them.
//!
//! ```proto
//! package greeter;
//! message Who      { string name = 1; uint32 times = 2; }
//! message Greeting { string text = 1; }
//! service Greeter  { rpc Greet(Who) returns (Greeting); rpc GreetOften(Who) returns (stream Greeting); }
//! ```

/// Who is to be greeted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Who {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// How often, where that is asked.
    #[prost(uint32, tag = "2")]
    pub times: u32,
}

/// A greeting.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Greeting {
    /// What is said.
    #[prost(string, tag = "1")]
    pub text: String,
}

pub use generated::{greeter_client, greeter_server};

#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "nobody reads this code; it is made anew with every build"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/greeter.Greeter.rs"));
}
