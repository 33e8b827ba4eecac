//! The names of the headers.

use http::HeaderName;

/// The principal, as `network.denomination.serial`. Always there.
pub const PRINCIPAL: HeaderName = HeaderName::from_static("x-qsocket-principal");
/// The number of the network. Always there.
pub const NETWORK: HeaderName = HeaderName::from_static("x-qsocket-network");
/// What is mixed into the keys of the connection: `relays`, then, separated by a comma and a space, `ml-kem-768` and
/// `encryption-key` if they are. Always there.
pub const KEY_STRENGTH: HeaderName = HeaderName::from_static("x-qsocket-key-strength");
/// How many of the 25 paths of the connection are well. Always there.
pub const PATHS: HeaderName = HeaderName::from_static("x-qsocket-paths");
/// The name of the user, if a directory knows one. What is not a visible character of ASCII, `%` and `,` are written as
/// in URIs, by their bytes: `M%C3%BCller`.
pub const USER: HeaderName = HeaderName::from_static("x-qsocket-user");
/// The groups of the user, if there are any, each written as [`USER`], separated by commas.
pub const GROUPS: HeaderName = HeaderName::from_static("x-qsocket-groups");
/// The resource, by its name in the directory and written as [`USER`], if a layer outside asked for it.
pub const RESOURCE: HeaderName = HeaderName::from_static("x-qsocket-resource");
