//! The bodies of responses behind layers.

mod holding;
mod response;

pub use holding::HoldingBody;
pub use response::ResponseBody;
