//! The bodies of responses behind layers.

mod response;

pub use response::ResponseBody;
