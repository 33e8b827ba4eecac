//! Where in the network a thread is.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace, or that of the process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Option<Arc<File>>);

impl Place {
    /// The network namespace of a process that runs.
    pub(super) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/ns/net");
        Ok(Self(Some(Arc::new(File::open(&path).with_context(|| path.clone())?))))
    }

    /// Takes the calling thread there, with all threads and processes that it starts afterwards.
    pub(crate) fn enter(&self) -> Result<()> {
        self.0.as_ref().map_or(Ok(()), |file| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("enter a network namespace")
        })
    }
}
