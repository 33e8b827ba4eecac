//! A policy that may change while listeners use it.

use super::{Action, Denial, Directory, Permit, Policy, Resource, User};
use crate::config::SettingsError;
use crate::look::{LOOK_EVERY, Look};
use qsocket_proto::ids::Principal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::sync::watch;

/// A directory that holds a [`Policy`] and may replace it at any time: by an edit in the program, or by reading its
/// file again.
///
/// Endpoints whose configuration has it enforce the new policy at once: streams and connections that it would refuse are
/// closed. An endpoint looks after the file by itself; a program that uses a directory without one spawns
/// [`watch`](Self::watch).
///
/// ```
/// use qsocket::access::policy::{Object, Policy, Rule, Subject};
/// use qsocket::access::{Action, Directory, LiveDirectory, Resource};
/// use std::time::SystemTime;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let alice = "1.0.1042".parse()?;
/// let mut policy = Policy::new();
/// policy.add_user("alice")?;
/// policy.add_principal("alice", alice)?;
/// policy.add_resource("wiki")?;
/// policy.add_service("wiki", "wiki.example".parse()?)?;
/// let directory = LiveDirectory::new(policy);
///
/// let asked = || directory.decide(alice, Action::Dial, Resource::Named("wiki.example:443"), SystemTime::now());
/// assert!(asked().is_err());
/// let to_alice: Subject = "alice".parse()?;
/// let on_wiki: Object = "wiki".parse()?;
/// directory.edit(|policy| policy.grant(Rule::new("alice reads", [to_alice], [on_wiki], [Action::Dial])))?;
/// assert_eq!(asked()?.rule.as_deref(), Some("alice reads"));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LiveDirectory {
    policy: RwLock<Arc<Policy>>,
    version: watch::Sender<u64>,
    file: Option<Watched>,
}

/// A file, and what it looked like when it was read last.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    seen: Mutex<Option<Look>>,
}

impl LiveDirectory {
    /// A directory without a file.
    pub fn new(policy: Policy) -> Arc<Self> {
        Self::with(policy, None)
    }

    /// A directory that begins with a policy file. Blocks on the file system.
    ///
    /// # Errors
    /// Those of [`Policy::from_file`].
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Arc<Self>, SettingsError> {
        let path = path.into();
        // Looked at before it is read: a change in between is found by the next look.
        let seen = Look::at(&path).ok();
        let policy = Policy::from_file(&path)?;
        Ok(Self::with(policy, Some(Watched { path, seen: Mutex::new(seen) })))
    }

    fn with(policy: Policy, file: Option<Watched>) -> Arc<Self> {
        Arc::new(Self { policy: RwLock::new(Arc::new(policy)), version: watch::Sender::new(0), file })
    }

    /// The policy as it stands.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file, if it has one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| &*file.path)
    }

    /// Takes another policy into force.
    pub fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.version.send_modify(|version| *version += 1);
    }

    /// Changes the policy, whole or not at all: if `edit` fails, it is as it was. Edits wait for each other. A file is not
    /// written; the next time that it changes it replaces the edit.
    ///
    /// # Errors
    /// Those of `edit`.
    pub fn edit<T, E>(&self, edit: impl FnOnce(&mut Policy) -> Result<T, E>) -> Result<T, E> {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let mut policy = Policy::clone(&current);
        let value = edit(&mut policy)?;
        *current = Arc::new(policy);
        drop(current);
        self.version.send_modify(|version| *version += 1);
        Ok(value)
    }

    /// Reads the file again, if there is one. Blocks on the file system.
    ///
    /// # Errors
    /// Those of [`Policy::from_file`]; the policy in force stays.
    pub fn reload(&self) -> Result<(), SettingsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut seen = file.seen();
        *seen = Look::at(&file.path).ok();
        self.replace(Policy::from_file(&file.path)?);
        Ok(())
    }

    /// Reads the file again if it changed since. Blocks on the file system. True if it did.
    ///
    /// # Errors
    /// Those of [`Policy::from_file`], once for each state of the file; the policy in force stays. A file that is gone is
    /// an error too, and revokes nothing.
    pub fn reload_if_changed(&self) -> Result<bool, SettingsError> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut seen = file.seen();
        let now = Look::at(&file.path).ok();
        if now == *seen {
            return Ok(false);
        }
        *seen = now;
        self.replace(Policy::from_file(&file.path)?);
        Ok(true)
    }

    /// Looks after the file for as long as it is polled: a changed file is in force within a quarter of a second; one that
    /// is refused is logged, and the policy in force stays. Does nothing without a file.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn watch(self: Arc<Self>) {
        let Some(path) = self.file().map(Path::to_owned) else { return };
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let directory = self.clone();
            match tokio::task::spawn_blocking(move || directory.reload_if_changed()).await {
                Ok(Ok(true)) => tracing::info!(file = %path.display(), "took the changed policy into force"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::error!(%error, "keep the policy in force: the changed one is refused")
                }
                // Only a runtime that ends cancels it.
                Err(_) => return,
            }
        }
    }
}

impl Watched {
    /// Held while the file is read, so that an older state never replaces a newer one.
    fn seen(&self) -> MutexGuard<'_, Option<Look>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for LiveDirectory {
    fn admit(&self, who: Principal) -> Result<(), Denial> {
        self.policy().admit(who)
    }

    fn decide(
        &self,
        who: Principal,
        action: Action,
        resource: Resource<'_>,
        at: SystemTime,
    ) -> Result<Permit, Denial> {
        self.policy().decide(who, action, resource, at)
    }

    fn user(&self, who: Principal) -> Option<User> {
        self.policy().user(who)
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.version.subscribe())
    }
}
