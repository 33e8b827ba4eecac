//! What a program asks of the system for itself before it reads a secret.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// Sees to it that secrets in memory do not end in a core dump, and that no other process of the user can attach.
///
/// Call it before anything secret is read. Swap and hibernation are the operator's matter.
///
/// # Errors
/// When the system refuses, which it has no reason to: both only take rights away. The message says what to do.
pub fn harden() -> io::Result<()> {
    let failed = |what: &str, e: rustix::io::Errno| {
        let e = io::Error::from(e);
        io::Error::new(e.kind(), format!("{what}: {e}"))
    };
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(|e| {
        failed("the limit of core dumps cannot be set to 0; start the program with `ulimit -c 0`", e)
    })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| failed("the process cannot be made undumpable; check the limits of its service", e))
}
