//! What principals change over their hops: addresses and numbers (`docs/protocol.md`, section 20).

use super::{Address, Db, Entry, Store, StoreError, columns, which};
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::{RelayTable, equal};
use qsocket_proto::relay::{MAX_ADDRESSES, Registration};
use raida_relay::principals::{Registered, Rotated};
use sqlx::any::AnyRow;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Addresses that servers registered over their hops. They are apart from those by the operator's hand, which stand over
/// them.
pub(super) const REGISTRATIONS: &str = "CREATE TABLE registrations (network INTEGER NOT NULL, denomination INTEGER NOT NULL, \
     serial INTEGER NOT NULL, service TEXT NOT NULL, dial TEXT NOT NULL, since INTEGER NOT NULL, \
     PRIMARY KEY (network, denomination, serial, service))";

/// Numbers that are to take the place of those of `principals`, each when it is used.
pub(super) const NUMBERS: &str = "CREATE TABLE numbers (network INTEGER NOT NULL, denomination INTEGER NOT NULL, \
     serial INTEGER NOT NULL, role INTEGER NOT NULL, number BLOB NOT NULL, \
     PRIMARY KEY (network, denomination, serial, role))";

impl Store {
    /// Puts the addresses that a server registers itself in the place of those that it registered before.
    pub(crate) async fn register(
        &self,
        server: Principal,
        claims: &[Registration],
        now: SystemTime,
    ) -> Result<Registered, StoreError> {
        let mut db = self.change().await?;
        let all = self.read(&mut db).await?;
        let claims = match permitted(&all, server, claims) {
            Ok(claims) => claims,
            Err(refused) => return Ok(refused),
        };
        if is_registered(&all, server, &claims) {
            return Ok(Registered::Kept);
        }
        self.forget_registrations(&mut db, server, None).await?;
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        for Registration { destination, dial } in claims {
            let insert = sqlx::query(
                "INSERT INTO registrations (network, denomination, serial, service, dial, since) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            );
            let [network, denomination, serial] = columns(server);
            let dial = dial.map(|d| d.to_string()).unwrap_or_default();
            let insert = insert.bind(network).bind(denomination).bind(serial).bind(destination.to_string());
            self.run(insert.bind(dial).bind(since), &mut db).await?;
        }
        self.commit(db).await?;
        Ok(Registered::Kept)
    }

    /// Keeps a number beside the one that a principal has, until it is used.
    pub(crate) async fn rotate(
        &self,
        (principal, role): (Principal, Role),
        next: &AuthenticityNumber,
    ) -> Result<Rotated, StoreError> {
        let mut db = self.change().await?;
        if !self.is_admitted(&mut db, (principal, role)).await? {
            return Ok(Rotated::Unknown);
        }
        let insert = sqlx::query(
            "INSERT INTO numbers (network, denomination, serial, role, number) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (network, denomination, serial, role) DO UPDATE SET number = excluded.number",
        );
        let [network, denomination, serial] = columns(principal);
        let insert = insert.bind(network).bind(denomination).bind(serial).bind(role as i32);
        self.run(insert.bind(next.expose()), &mut db).await?;
        self.commit(db).await?;
        Ok(Rotated::Kept)
    }

    /// Puts the number that waits for a principal in the place of its other one, if it is this one.
    pub(crate) async fn settle(
        &self,
        who: (Principal, Role),
        next: &AuthenticityNumber,
    ) -> Result<Rotated, StoreError> {
        let mut db = self.change().await?;
        let waits = self.read_next(&mut db).await?.get(&who).is_some_and(|number| equal(number, next));
        if !waits || !self.is_admitted(&mut db, who).await? {
            return Ok(Rotated::Unknown);
        }
        let update = sqlx::query(
            "UPDATE principals SET number = $1 \
             WHERE network = $2 AND denomination = $3 AND serial = $4 AND role = $5",
        );
        let [network, denomination, serial] = columns(who.0);
        let update = update.bind(next.expose()).bind(network).bind(denomination).bind(serial);
        self.run(update.bind(who.1 as i32), &mut db).await?;
        self.forget_next(&mut db, who.0, Some(who.1)).await?;
        self.commit(db).await?;
        Ok(Rotated::Kept)
    }

    /// Forgets what a server registered itself: one address, or all. Returns how many that were.
    pub(crate) async fn unregister(
        &self,
        server: Principal,
        service: Option<SocketAddr>,
    ) -> Result<u64, StoreError> {
        let mut db = self.change().await?;
        let forgotten = self.forget_registrations(&mut db, server, service).await?;
        self.commit(db).await?;
        Ok(forgotten)
    }

    /// The numbers that are to take the place of others.
    pub(super) async fn read_next(&self, db: &mut Db<'_>) -> Result<RelayTable, StoreError> {
        if self.meta(db, "schema").await? == 1 {
            return Ok(RelayTable::new());
        }
        let rows = sqlx::query("SELECT network, denomination, serial, role, number FROM numbers");
        let rows = rows.fetch_all(&mut **db).await.map_err(|e| self.database(e))?;
        let one = |row: &AnyRow| {
            let number = Zeroizing::new(self.get::<Vec<u8>>(row, "number")?);
            let number =
                AuthenticityNumber::new(&number).map_err(|_| self.damaged("an authenticity number"))?;
            Ok(((self.principal(row)?, self.role(row)?), number))
        };
        rows.iter().map(one).collect()
    }

    /// Forgets the numbers that wait for a principal in one role or both.
    pub(super) async fn forget_next(
        &self,
        db: &mut Db<'_>,
        principal: Principal,
        role: Option<Role>,
    ) -> Result<(), StoreError> {
        let delete = sqlx::query(
            "DELETE FROM numbers \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        self.run(which(delete, principal, role), db).await.map(drop)
    }

    /// One of them, or all.
    pub(super) async fn forget_registrations(
        &self,
        db: &mut Db<'_>,
        principal: Principal,
        service: Option<SocketAddr>,
    ) -> Result<u64, StoreError> {
        let [network, denomination, serial] = columns(principal);
        let delete = sqlx::query(
            "DELETE FROM registrations WHERE network = $1 AND denomination = $2 AND serial = $3 \
             AND ($4 = '' OR service = $4)",
        );
        let service = service.map(|s| s.to_string()).unwrap_or_default();
        self.run(delete.bind(network).bind(denomination).bind(serial).bind(service), db).await
    }
}

/// Those of `claims` that are not the server's by its operator's hand, if it may have them all.
fn permitted(
    all: &[(Entry, AuthenticityNumber)],
    server: Principal,
    claims: &[Registration],
) -> Result<Vec<Registration>, Registered> {
    let is_own = |entry: &Entry| (entry.principal, entry.role) == (server, Role::Server);
    let own = all.iter().map(|(entry, _)| entry).find(|entry| is_own(entry)).ok_or(Registered::Unknown)?;
    if own.banned.is_some() {
        return Err(Registered::Unknown);
    }
    let is_named = |c: &Registration| own.addresses.iter().any(|a| a.service == c.destination);
    let claims: Vec<_> = claims.iter().filter(|c| !is_named(c)).copied().collect();
    if own.addresses.len() + claims.len() > MAX_ADDRESSES {
        return Err(Registered::TooMany);
    }
    // A banned one keeps what it has: it may be admitted again.
    for (entry, _) in all.iter().filter(|(entry, _)| entry.principal != server) {
        let mut held = entry.addresses.iter().chain(&entry.registered);
        if held.any(|a| claims.iter().any(|c| c.destination == a.service)) {
            return Err(Registered::Taken);
        }
    }
    Ok(claims)
}

/// Whether it has exactly these at its own word: each process of a relay is told, and one of them writes.
fn is_registered(all: &[(Entry, AuthenticityNumber)], server: Principal, claims: &[Registration]) -> bool {
    let own = all.iter().map(|(entry, _)| entry).find(|e| (e.principal, e.role) == (server, Role::Server));
    let has = |known: &[Address], c: &Registration| {
        known.iter().any(|a| (a.service, a.dial) == (c.destination, c.dial))
    };
    own.is_some_and(|e| e.registered.len() == claims.len() && claims.iter().all(|c| has(&e.registered, c)))
}
