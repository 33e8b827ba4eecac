//! How many files the program may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
