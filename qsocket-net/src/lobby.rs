//! Peers that have connected and not yet shown who they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Connections whose handshake is not over: so many, and no more.
///
/// When it is full, whoever has waited longest leaves for the next. A flood of peers that say nothing so shortens the
/// time that each has for its handshake, and keeps nobody out who is quicker than that.
#[derive(Debug)]
pub struct Lobby {
    most: usize,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    /// By arrival.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Lobby {
    /// With room for `most`, at least one.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most: most.max(1), guests: Mutex::default() })
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        // It is consistent between calls, so a panic elsewhere does not spoil it.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one in, and asks the one to leave that has waited longest if it is full. The place lasts until it is
    /// dropped.
    pub fn enter(self: &Arc<Self>) -> Place {
        let leave = Arc::new(Notify::new());
        let mut guests = self.guests();
        while guests.waiting.len() >= self.most && guests.ask_oldest() {}
        let number = guests.next;
        guests.next += 1;
        guests.waiting.insert(number, leave.clone());
        Place { lobby: self.clone(), number, leave }
    }

    /// Asks the one to leave that has waited longest; false if nobody waits.
    pub fn make_room(&self) -> bool {
        self.guests().ask_oldest()
    }

    /// How many wait, without those who were asked to leave.
    pub fn len(&self) -> usize {
        self.guests().waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Guests {
    fn ask_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.waiting.pop_first() else { return false };
        oldest.notify_one();
        true
    }
}

/// A place in a [`Lobby`].
#[derive(Debug)]
pub struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    leave: Arc<Notify>,
}

impl Place {
    /// Waits until it is asked to leave.
    ///
    /// # Cancel safety
    /// Not safe: whoever was asked and drops this is not asked again. Poll it to its end, beside what it bounds.
    pub async fn asked_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.guests().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn was_asked(place: &Place) -> bool {
        pin!(place.asked_to_leave()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_one_who_waits_longest_leaves_for_the_next() {
        let lobby = Lobby::new(2);
        let (first, second) = (lobby.enter(), lobby.enter());
        assert!(!was_asked(&first) && !was_asked(&second));
        let third = lobby.enter();
        assert!(was_asked(&first) && !was_asked(&second) && !was_asked(&third));
        assert_eq!(lobby.len(), 2);
        drop(second);
        let fourth = lobby.enter();
        assert!(!was_asked(&third) && !was_asked(&fourth), "there was room");
        // Its place was taken already.
        drop(first);
        assert_eq!(lobby.len(), 2);
        assert!(lobby.make_room() && was_asked(&third) && lobby.make_room() && was_asked(&fourth));
        assert!(!lobby.make_room() && lobby.is_empty());
    }
}
