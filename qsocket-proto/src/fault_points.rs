//! Places where rare branches become common. For simulations only: feature `fault-points`.
//!
//! Some branches are taken once in a million runs: a key phase that changes at the worst moment, an acknowledgement
//! that says less than it could, a stripe that a full outbox loses. Each [`Point`] names one such place, and every
//! one of them is something that the protocol allows a sound implementation to do. A simulation that [`arm`]s them
//! meets these branches in every run, and all its promises must hold.
//!
//! A run enables some of the points, by chance, and an enabled one fires by chance. Chance comes from the seed
//! alone and belongs to the thread, so that one seed gives one run. Without the feature [`hit`] is the constant
//! `false`, and nothing of this is compiled in.

/// One such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Point {
    /// The sender moves on to the next key phase as early as it may.
    EarlyPhase,
    /// A block is frozen although more bytes wait for it.
    SmallBlock,
    /// An outbox says that it has no room.
    NoRoom,
    /// A stripe is sealed, counted, and lost before it is in an outbox.
    StripeLost,
    /// The same for one copy of a control packet.
    ControlLost,
    /// A block that could be computed is computed at once, without waiting for its data stripes.
    NoPatience,
    /// Even a small block waits for its data stripes.
    MorePatience,
    /// An acknowledgement goes out at once.
    AckNow,
    /// An acknowledgement waits longer than it needs to.
    AckLate,
    /// An acknowledgement names one stream, no ranges and no partial blocks.
    AckShort,
    /// What is unacknowledged counts as overdue long before it is.
    EarlyProbe,
    /// A stripe that opened is dropped: its path counters say that it arrived.
    OpenedLost,
    /// Unopened parity is not kept.
    NoParking,
    /// A stream that is forgotten is not acknowledged before its sender asks again.
    NoLastAck,
    /// One failure to open is enough to distrust a path.
    Distrust,
    /// A call of `transmit` ends after one block or packet, with more to do.
    ShortCall,
    /// A window is raised as soon as a byte was read.
    EagerWindow,
    /// A control packet says one thing only.
    SmallPacket,
    /// A packet counts as stale after few newer ones.
    EarlyRepeat,
    /// A block gets the other parity set than its policy says.
    OtherParity,
    /// A relay has no room for a route.
    RelayBusy,
    /// A relay drops a stripe.
    RelayDrops,
    /// A hop takes the next key as early as it may.
    EarlyRekey,
}

impl Point {
    /// Every place, in order.
    #[cfg(feature = "fault-points")]
    pub const ALL: [Self; 23] = [
        Self::EarlyPhase,
        Self::SmallBlock,
        Self::NoRoom,
        Self::StripeLost,
        Self::ControlLost,
        Self::NoPatience,
        Self::MorePatience,
        Self::AckNow,
        Self::AckLate,
        Self::AckShort,
        Self::EarlyProbe,
        Self::OpenedLost,
        Self::NoParking,
        Self::NoLastAck,
        Self::Distrust,
        Self::ShortCall,
        Self::EagerWindow,
        Self::SmallPacket,
        Self::EarlyRepeat,
        Self::OtherParity,
        Self::RelayBusy,
        Self::RelayDrops,
        Self::EarlyRekey,
    ];

    /// How often the point fires in a run that enables it: once in so many times.
    #[cfg(feature = "fault-points")]
    const fn one_in(self) -> u64 {
        match self {
            // Read in every turn for the same decision: it holds for a whole run or not at all.
            Self::MorePatience | Self::EarlyProbe | Self::Distrust | Self::EarlyRepeat => 1,
            Self::AckNow | Self::AckLate | Self::AckShort | Self::NoParking | Self::NoLastAck => 2,
            Self::NoPatience | Self::ShortCall | Self::SmallPacket | Self::OtherParity => 2,
            Self::EarlyPhase | Self::SmallBlock | Self::EagerWindow => 4,
            Self::NoRoom | Self::ControlLost | Self::RelayBusy | Self::EarlyRekey => 8,
            Self::StripeLost | Self::OpenedLost | Self::RelayDrops => 16,
        }
    }
}

#[cfg(feature = "fault-points")]
pub use armed::{arm, disarm, enabled, hits};

#[cfg(feature = "fault-points")]
mod armed {
    use super::Point;
    use std::cell::{Cell, RefCell};

    /// An armed run enables each point with this chance: one in so many.
    const ENABLED_ONE_IN: u64 = 3;

    struct Armed {
        state: u64,
        enabled: [bool; Point::ALL.len()],
        hits: [u64; Point::ALL.len()],
    }

    impl Armed {
        /// SplitMix64: all that is asked of it is that runs differ.
        fn next(&mut self) -> u64 {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    thread_local! {
        static IS_ARMED: Cell<bool> = const { Cell::new(false) };
        static ARMED: RefCell<Option<Armed>> = const { RefCell::new(None) };
    }

    /// Enables some of the points on this thread, by the chance of `seed`, until [`disarm`].
    pub fn arm(seed: u64) {
        let mut armed =
            Armed { state: seed, enabled: [false; Point::ALL.len()], hits: [0; Point::ALL.len()] };
        for at in 0..Point::ALL.len() {
            let enabled = armed.next().is_multiple_of(ENABLED_ONE_IN);
            if let Some(slot) = armed.enabled.get_mut(at) {
                *slot = enabled;
            }
        }
        IS_ARMED.set(true);
        ARMED.set(Some(armed));
    }

    /// Lets no point fire any more on this thread.
    pub fn disarm() {
        IS_ARMED.set(false);
    }

    /// The points that the last [`arm`] on this thread enabled.
    pub fn enabled() -> Vec<Point> {
        let is_enabled = |point: &Point| {
            ARMED.with_borrow(|armed| armed.as_ref()?.enabled.get(*point as usize).copied()) == Some(true)
        };
        Point::ALL.into_iter().filter(is_enabled).collect()
    }

    /// How often each point of [`Point::ALL`] fired since the last [`arm`] on this thread.
    pub fn hits() -> [u64; Point::ALL.len()] {
        ARMED.with_borrow(|armed| armed.as_ref().map_or([0; Point::ALL.len()], |armed| armed.hits))
    }

    pub(crate) fn hit(point: Point) -> bool {
        IS_ARMED.get()
            && ARMED.with_borrow_mut(|armed| {
                let Some(armed) = armed else { return false };
                let at = point as usize;
                let fires = armed.enabled.get(at) == Some(&true)
                    && (point.one_in() == 1 || armed.next().is_multiple_of(point.one_in()));
                if let Some(count) = armed.hits.get_mut(at) {
                    *count += u64::from(fires);
                }
                fires
            })
    }
}

/// Whether the rare branch at this place is taken now.
#[cfg(feature = "fault-points")]
pub(crate) fn hit(point: Point) -> bool {
    armed::hit(point)
}

/// Whether the rare branch at this place is taken now: never.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) const fn hit(_: Point) -> bool {
    false
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    use super::*;

    fn fired() -> Vec<bool> {
        (0..2000).flat_map(|_| Point::ALL).map(hit).collect()
    }

    #[test]
    fn points_fire_only_while_armed_and_one_seed_fires_alike() {
        assert!(!fired().contains(&true));
        arm(1);
        let first = fired();
        let counts: Vec<bool> = hits().iter().map(|hits| *hits > 0).collect();
        let are_enabled: Vec<bool> = Point::ALL.iter().map(|point| enabled().contains(point)).collect();
        assert_eq!(counts, are_enabled, "an enabled point fires within 2,000 times");
        assert!(counts.contains(&true) && counts.contains(&false));
        arm(1);
        assert_eq!(fired(), first);
        arm(2);
        assert_ne!(fired(), first);
        disarm();
        assert!(!fired().contains(&true));
    }
}
