//! What the program asks of the system for itself before it reads a secret.

use anyhow::Context;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Sees to it that secrets in memory do not end in a core dump, and that no other process of the user can attach.
///
/// Call it before anything secret is read. Swap and hibernation are the operator's matter.
///
/// # Errors
/// When the system refuses, which it has no reason to: both only take rights away.
pub(crate) fn harden() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("the limit of core dumps cannot be set to 0; start the relay with `ulimit -c 0`")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("the process cannot be made undumpable; check the limits of its service")?;
    Ok(())
}

/// Raises the number of files that the process may open as far as it may, and warns if that is less than `needed`.
pub(crate) fn raise_open_files(needed: u64) {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: maximum, maximum };
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(error = %e, "the limit of open files stays");
    }
    let Rlimit { current, .. } = getrlimit(Resource::Nofile);
    if let Some(current) = current.filter(|current| *current < needed) {
        tracing::warn!(
            current,
            needed,
            "fewer files may be open than connections are allowed: raise LimitNOFILE or `ulimit -n`, or lower \
             [limits] connections"
        );
    }
}
