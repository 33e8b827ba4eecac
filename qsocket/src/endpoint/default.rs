//! The endpoint that `QSocketStream::connect` uses: one per tokio runtime, because tasks die with theirs.

use super::Endpoint;
use crate::config::Config;
use std::collections::HashMap;
use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::runtime::{Handle, Id};

static ENDPOINTS: LazyLock<Mutex<HashMap<Id, Endpoint>>> = LazyLock::new(Mutex::default);

/// Removes a runtime's endpoint when the runtime ends and drops its tasks.
struct Guard(Id);

impl Drop for Guard {
    fn drop(&mut self) {
        ENDPOINTS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// The endpoint of this runtime; the first call builds it from the configuration that is found.
pub(crate) fn default_client() -> io::Result<Endpoint> {
    let id = Handle::current().id();
    let mut endpoints = ENDPOINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(endpoint) = endpoints.get(&id) {
        return Ok(endpoint.clone());
    }
    let endpoint = Endpoint::client(Config::load()?)?;
    endpoints.insert(id, endpoint.clone());
    drop(endpoints);
    tokio::spawn(async move {
        let _guard = Guard(id);
        std::future::pending::<()>().await;
    });
    Ok(endpoint)
}
