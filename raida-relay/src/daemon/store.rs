//! The store of principals: who is known, with this relay's number of their RAIDA keys, bans, quotas, addresses.
//!
//! SQLite through sqlx's `Any` driver. Statements keep to what PostgreSQL takes too; only [`SCHEMA`] and opening are
//! SQLite's own. The journal is SQLite's default, the rollback journal: the store is small and seldom written, and
//! nothing but the one file is left behind to be guarded and copied. SQLite gives the journal the file's mode.
//!
//! # Security
//! Numbers are erased where this module holds them. Copies inside sqlx and SQLite's page cache are not.

mod changes;
mod file;
mod permits;
#[cfg(test)]
mod tests;

use changes::{NUMBERS, REGISTRATIONS};
pub(crate) use file::FileError;
use permits::PERMITS;
pub(crate) use permits::Permit;

use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{PathId, Principal, Role};
use qsocket_proto::relay::{MAX_ADDRESSES, MAX_ROUTES, Quota};
use raida_relay::{Roster, Server};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{Any, AnyPool, Row, Transaction};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// The version of the tables below. A store of version 1, without [`REGISTRATIONS`] and [`NUMBERS`], or 2, without
/// [`PERMITS`], is read as it is and brought to this version by whoever writes first; another one is refused.
const SCHEMA_VERSION: i64 = 3;

/// How long a statement waits while another process writes. A writer holds the lock for milliseconds; a store that
/// is busy for longer is stuck, and the command should say so.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest reason of a ban, in characters.
pub(crate) const MAX_REASON: usize = 200;

/// Roles are stored as on the wire: 1 client, 2 server. An empty `dial` stands for a server that dials.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "CREATE TABLE principals (network INTEGER NOT NULL, denomination INTEGER NOT NULL, serial INTEGER NOT NULL, \
     role INTEGER NOT NULL, number BLOB NOT NULL, banned INTEGER NOT NULL, reason TEXT NOT NULL, \
     since INTEGER NOT NULL, connections INTEGER NOT NULL, bytes_per_second INTEGER NOT NULL, \
     PRIMARY KEY (network, denomination, serial, role))",
    "CREATE TABLE addresses (network INTEGER NOT NULL, denomination INTEGER NOT NULL, serial INTEGER NOT NULL, \
     service TEXT NOT NULL, dial TEXT NOT NULL, PRIMARY KEY (network, denomination, serial, service))",
    REGISTRATIONS,
    NUMBERS,
    PERMITS,
    "INSERT INTO meta (name, value) VALUES ('schema', 3), ('revision', 1)",
];

/// Why a store is not used, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file or its folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// SQLite said no.
    #[error("{}: {source}", path.display())]
    Database {
        /// The store.
        path: PathBuf,
        /// What it said.
        source: sqlx::Error,
    },
    /// Not what this program writes.
    #[error("{}: {what}", path.display())]
    Content {
        /// The store.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// A command that the store's content forbids.
    #[error("{0}")]
    Refused(String),
}

/// Whether a store may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reads only.
    Read,
    /// Reads and writes.
    Write,
}

/// An address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// What clients name.
    pub(crate) service: SocketAddr,
    /// Where the relay dials; `None` if the server dials.
    pub(crate) dial: Option<SocketAddr>,
}

/// A principal to add.
#[derive(Debug)]
pub(crate) struct NewPrincipal {
    /// Who.
    pub(crate) principal: Principal,
    /// In which role.
    pub(crate) role: Role,
    /// This relay's number of its RAIDA key.
    pub(crate) number: AuthenticityNumber,
    /// What it may use.
    pub(crate) quota: Quota,
    /// At most [`MAX_ADDRESSES`], for a server only.
    pub(crate) addresses: Vec<Address>,
}

/// A principal as the store shows it: everything but the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who.
    pub(crate) principal: Principal,
    /// In which role.
    pub(crate) role: Role,
    /// Bits of the number.
    pub(crate) bits: u16,
    /// If it is banned.
    pub(crate) banned: Option<Ban>,
    /// What it may use.
    pub(crate) quota: Quota,
    /// Of a server, by the operator's hand.
    pub(crate) addresses: Vec<Address>,
    /// That the server registered itself.
    pub(crate) registered: Vec<Address>,
}

/// Since when and why a principal is banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// For the operator.
    pub(crate) reason: String,
    /// Seconds since 1970.
    pub(crate) since: u64,
}

/// What a relay loads: banned principals are counted and otherwise left out.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The revision that this is.
    pub(crate) revision: i64,
    /// All that are not banned.
    pub(crate) roster: Roster,
    /// How many are banned.
    pub(crate) banned: usize,
}

/// An open store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: AnyPool,
    path: PathBuf,
}

type Db<'a> = Transaction<'a, Any>;

/// Opens a file of SQLite that nobody else can read or change, and makes it if there is none: for tables other than
/// those of principals.
///
/// # Errors
/// As [`Store::open`].
pub(crate) async fn private_file(path: &Path) -> Result<AnyPool, StoreError> {
    let place = match file::check(path) {
        Err(FileError::Missing { .. }) => file::create(path)?,
        checked => checked?,
    };
    pool(path, &place, Access::Write).await
}

async fn pool(path: &Path, place: &Path, access: Access) -> Result<AnyPool, StoreError> {
    sqlx::any::install_default_drivers();
    let url = file::url(place, access).ok_or_else(|| StoreError::Content {
        path: path.to_owned(),
        what: "the path is not UTF-8; rename the file or its folder".to_owned(),
    })?;
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(BUSY_TIMEOUT * 2)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // `secure_delete` overwrites what is deleted: a removed number is gone from the file.
                for pragma in ["PRAGMA busy_timeout = 5000", "PRAGMA secure_delete = ON"] {
                    sqlx::raw_sql(pragma).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .connect(&url)
        .await;
    pool.map_err(|source| StoreError::Database { path: path.to_owned(), source })
}

impl Store {
    /// Makes an empty store with mode 0600 for one relay of one network.
    ///
    /// # Errors
    /// When the file exists, or others could write to its folder.
    pub(crate) async fn create(path: &Path, network: u16, relay: PathId) -> Result<Self, StoreError> {
        let place = file::create(path)?;
        let store = Self::connect(path, &place, Access::Write).await?;
        let mut db = store.begin().await?;
        for statement in SCHEMA {
            store.run(sqlx::query(statement), &mut db).await?;
        }
        for (name, value) in [("network", i64::from(network)), ("relay", i64::from(relay.get()))] {
            let insert = sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2)").bind(name).bind(value);
            store.run(insert, &mut db).await?;
        }
        store.commit(db).await?;
        Ok(store)
    }

    /// Opens a store after checking who could have read or changed it.
    ///
    /// # Errors
    /// When it is not private, is not a store, or belongs to another relay or network than named.
    pub(crate) async fn open(
        path: &Path,
        network: u16,
        relay: PathId,
        access: Access,
    ) -> Result<Self, StoreError> {
        let place = file::check(path)?;
        let store = Self::connect(path, &place, access).await?;
        let mut db = store.begin().await?;
        let schema = store.meta(&mut db, "schema").await?;
        if !(1..=SCHEMA_VERSION).contains(&schema) {
            return Err(store.content(format!(
                "its tables have version {schema}, and this program knows {SCHEMA_VERSION}; use the program that made it"
            )));
        }
        let (of_network, of_relay) =
            (store.meta(&mut db, "network").await?, store.meta(&mut db, "relay").await?);
        if (of_network, of_relay) != (network.into(), relay.get().into()) {
            return Err(store.content(format!(
                "it is the store of relay {of_relay} of network {of_network}, not of relay {relay} of network \
                 {network}; name the right store in the configuration"
            )));
        }
        drop(db);
        if access == Access::Write && schema < SCHEMA_VERSION {
            store.upgrade().await?;
        }
        Ok(store)
    }

    /// Brings an older store to this version.
    async fn upgrade(&self) -> Result<(), StoreError> {
        let mut db = self.change().await?;
        // Another process may have been faster.
        let schema = self.meta(&mut db, "schema").await?;
        if schema < SCHEMA_VERSION {
            if schema < 2 {
                self.run(sqlx::query(REGISTRATIONS), &mut db).await?;
                self.run(sqlx::query(NUMBERS), &mut db).await?;
            }
            self.run(sqlx::query(PERMITS), &mut db).await?;
            let version =
                sqlx::query("UPDATE meta SET value = $1 WHERE name = 'schema'").bind(SCHEMA_VERSION);
            self.run(version, &mut db).await?;
        }
        self.commit(db).await
    }

    async fn connect(path: &Path, place: &Path, access: Access) -> Result<Self, StoreError> {
        Ok(Self { pool: pool(path, place, access).await?, path: path.to_owned() })
    }

    /// Closes the file.
    pub(crate) async fn close(self) {
        self.pool.close().await;
    }

    /// A number that every change makes larger.
    pub(crate) async fn revision(&self) -> Result<i64, StoreError> {
        let mut db = self.begin().await?;
        self.meta(&mut db, "revision").await
    }

    /// Adds a principal. One that is there gets the new number, quota and addresses; a ban stays.
    ///
    /// # Errors
    /// Another network, too many addresses, or addresses of a client.
    pub(crate) async fn add(&self, new: &NewPrincipal) -> Result<(), StoreError> {
        self.insert(new, true).await?;
        Ok(())
    }

    /// Adds a principal unless it is there in this role; false if it is, and then nothing changed. Of two processes that
    /// do this at once, one gets true.
    ///
    /// # Errors
    /// As [`Store::add`].
    pub(crate) async fn add_new(&self, new: &NewPrincipal) -> Result<bool, StoreError> {
        self.insert(new, false).await
    }

    async fn insert(&self, new: &NewPrincipal, replace: bool) -> Result<bool, StoreError> {
        if new.role == Role::Client && !new.addresses.is_empty() {
            return Err(StoreError::Refused(format!(
                "{} is a client, and only servers have addresses; leave --address out",
                new.principal
            )));
        }
        if new.addresses.len() > MAX_ADDRESSES {
            return Err(StoreError::Refused(format!(
                "{} addresses are too many; a server has at most {MAX_ADDRESSES}",
                new.addresses.len()
            )));
        }
        let mut db = self.change().await?;
        let network = self.meta(&mut db, "network").await?;
        if network != i64::from(new.principal.network) {
            return Err(StoreError::Refused(format!(
                "{} belongs to network {}, and this relay to network {network}",
                new.principal, new.principal.network
            )));
        }
        // `change` holds the lock for writing already.
        if !replace {
            let known = sqlx::query(
                "SELECT number FROM principals \
                 WHERE network = $1 AND denomination = $2 AND serial = $3 AND role = $4",
            );
            let [network, denomination, serial] = columns(new.principal);
            let known = known.bind(network).bind(denomination).bind(serial).bind(new.role as i32);
            if known.fetch_optional(&mut *db).await.map_err(|e| self.database(e))?.is_some() {
                return Ok(false);
            }
        }
        let insert = sqlx::query(
            "INSERT INTO principals (network, denomination, serial, role, number, banned, reason, since, \
             connections, bytes_per_second) VALUES ($1, $2, $3, $4, $5, 0, '', 0, $6, $7) \
             ON CONFLICT (network, denomination, serial, role) DO UPDATE SET number = excluded.number, \
             connections = excluded.connections, bytes_per_second = excluded.bytes_per_second",
        );
        let [network, denomination, serial] = columns(new.principal);
        let insert = insert
            .bind(network)
            .bind(denomination)
            .bind(serial)
            .bind(new.role as i32)
            .bind(new.number.expose())
            .bind(new.quota.routes.min(MAX_ROUTES) as i64)
            .bind(new.quota.bytes_per_second.and_then(|n| i64::try_from(n).ok()).unwrap_or(0));
        self.run(insert, &mut db).await?;
        self.forget_next(&mut db, new.principal, Some(new.role)).await?;
        // It is known by the operator's hand from now on.
        self.forget_permits(&mut db, new.principal, Some(new.role)).await?;
        if new.role == Role::Server {
            self.forget_addresses(&mut db, new.principal).await?;
        }
        for Address { service, dial } in &new.addresses {
            let insert = sqlx::query(
                "INSERT INTO addresses (network, denomination, serial, service, dial) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (network, denomination, serial, service) DO UPDATE SET dial = excluded.dial",
            );
            let dial = dial.map(|d| d.to_string()).unwrap_or_default();
            let insert =
                insert.bind(network).bind(denomination).bind(serial).bind(service.to_string()).bind(dial);
            self.run(insert, &mut db).await?;
            // The operator's word stands over a server's own.
            let delete =
                sqlx::query("DELETE FROM registrations WHERE service = $1").bind(service.to_string());
            self.run(delete, &mut db).await?;
        }
        self.commit(db).await?;
        Ok(true)
    }

    /// Whether a principal that is known in this role is banned.
    async fn banned(&self, db: &mut Db<'_>, who: (Principal, Role)) -> Result<Option<bool>, StoreError> {
        let known = sqlx::query(
            "SELECT banned FROM principals \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND role = $4",
        );
        let [network, denomination, serial] = columns(who.0);
        let known = known.bind(network).bind(denomination).bind(serial).bind(who.1 as i32);
        let row = known.fetch_optional(&mut **db).await.map_err(|e| self.database(e))?;
        row.map(|row| Ok(self.get::<i64>(&row, "banned")? != 0)).transpose()
    }

    /// Whether a principal is known in this role and not banned.
    async fn is_admitted(&self, db: &mut Db<'_>, who: (Principal, Role)) -> Result<bool, StoreError> {
        Ok(self.banned(db, who).await? == Some(false))
    }

    /// Bans a principal in one role or both. Returns how many entries that were.
    pub(crate) async fn ban(
        &self,
        principal: Principal,
        role: Option<Role>,
        reason: &str,
        now: SystemTime,
    ) -> Result<u64, StoreError> {
        if reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
            return Err(StoreError::Refused(format!(
                "the reason is too long or has more than one line; write at most {MAX_REASON} characters"
            )));
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let update = sqlx::query(
            "UPDATE principals SET banned = 1, reason = $5, since = $6 \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        let mut db = self.change().await?;
        let update = which(update, principal, role).bind(reason).bind(since);
        let changed = self.run(update, &mut db).await?;
        self.commit(db).await?;
        Ok(changed)
    }

    /// Takes bans back. Returns how many.
    pub(crate) async fn unban(&self, principal: Principal, role: Option<Role>) -> Result<u64, StoreError> {
        let update = sqlx::query(
            "UPDATE principals SET banned = 0, reason = '', since = 0 \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        let mut db = self.change().await?;
        let changed = self.run(which(update, principal, role), &mut db).await?;
        self.commit(db).await?;
        Ok(changed)
    }

    /// Forgets a principal in one role or both. Returns how many entries that were.
    pub(crate) async fn remove(&self, principal: Principal, role: Option<Role>) -> Result<u64, StoreError> {
        let delete = sqlx::query(
            "DELETE FROM principals \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        let mut db = self.change().await?;
        let changed = self.run(which(delete, principal, role), &mut db).await?;
        self.forget_next(&mut db, principal, role).await?;
        self.forget_permits(&mut db, principal, role).await?;
        if role != Some(Role::Client) {
            self.forget_addresses(&mut db, principal).await?;
            self.forget_registrations(&mut db, principal, None).await?;
        }
        self.commit(db).await?;
        Ok(changed)
    }

    /// All principals in order, without their numbers.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut db = self.begin().await?;
        Ok(self.read(&mut db).await?.into_iter().map(|(entry, _)| entry).collect())
    }

    /// What a relay needs.
    pub(crate) async fn load(&self) -> Result<Loaded, StoreError> {
        let mut db = self.begin().await?;
        let revision = self.meta(&mut db, "revision").await?;
        let mut roster = Roster::default();
        let mut banned = 0;
        for (entry, number) in self.read(&mut db).await? {
            let Entry { principal, role, quota, addresses, registered, banned: ban, .. } = entry;
            if ban.is_some() {
                banned += 1;
                continue;
            }
            let server = |Address { service, dial }| Server { principal, service, dial };
            roster.servers.extend(addresses.into_iter().map(server));
            roster.claims.extend(registered.into_iter().map(server));
            if quota != Quota::default() {
                roster.quotas.insert((principal, role), quota);
            }
            roster.table.insert((principal, role), number);
        }
        roster.next = self.read_next(&mut db).await?;
        roster.next.retain(|who, _| roster.table.contains_key(who));
        let permits = self.read_permits(&mut db).await?;
        roster.awaited = permits.iter().filter(|p| p.drawn).map(|p| (p.principal, p.role)).collect();
        roster.awaited.retain(|who| roster.table.contains_key(who));
        Ok(Loaded { revision, roster, banned })
    }

    async fn read(&self, db: &mut Db<'_>) -> Result<Vec<(Entry, AuthenticityNumber)>, StoreError> {
        let mut addresses = self.read_addresses(db, "addresses").await?;
        let mut registered = match self.meta(db, "schema").await? {
            1 => BTreeMap::new(),
            _ => self.read_addresses(db, "registrations").await?,
        };
        let rows = sqlx::query(
            "SELECT network, denomination, serial, role, number, banned, reason, since, connections, \
             bytes_per_second FROM principals ORDER BY network, denomination, serial, role",
        );
        let rows = rows.fetch_all(&mut **db).await.map_err(|e| self.database(e))?;
        rows.iter()
            .map(|row| {
                let principal = self.principal(row)?;
                let role = self.role(row)?;
                let number = Zeroizing::new(self.get::<Vec<u8>>(row, "number")?);
                let number =
                    AuthenticityNumber::new(&number).map_err(|_| self.damaged("an authenticity number"))?;
                let banned = (self.get::<i64>(row, "banned")? != 0).then_some(());
                let ban = |()| -> Result<Ban, StoreError> {
                    let since = self.get::<i64>(row, "since")?.unsigned_abs();
                    Ok(Ban { reason: self.get(row, "reason")?, since })
                };
                let rate = self.get::<i64>(row, "bytes_per_second")?;
                let entry = Entry {
                    principal,
                    role,
                    bits: number.bits(),
                    banned: banned.map(ban).transpose()?,
                    quota: Quota {
                        routes: usize::try_from(self.get::<i64>(row, "connections")?)
                            .map_err(|_| self.damaged("a quota"))?,
                        bytes_per_second: u64::try_from(rate).ok().filter(|n| *n != 0),
                    },
                    addresses: of_server(role, principal, &mut addresses),
                    registered: of_server(role, principal, &mut registered),
                };
                Ok((entry, number))
            })
            .collect()
    }

    fn role(&self, row: &AnyRow) -> Result<Role, StoreError> {
        match self.get::<i64>(row, "role")? {
            1 => Ok(Role::Client),
            2 => Ok(Role::Server),
            _ => Err(self.damaged("a role")),
        }
    }

    /// One of the two tables of addresses, by server.
    async fn read_addresses(
        &self,
        db: &mut Db<'_>,
        table: &'static str,
    ) -> Result<BTreeMap<Principal, Vec<Address>>, StoreError> {
        let rows = match table {
            "addresses" => sqlx::query(
                "SELECT network, denomination, serial, service, dial FROM addresses \
                 ORDER BY network, denomination, serial, service",
            ),
            _ => sqlx::query(
                "SELECT network, denomination, serial, service, dial FROM registrations \
                 ORDER BY network, denomination, serial, service",
            ),
        };
        let rows = rows.fetch_all(&mut **db).await.map_err(|e| self.database(e))?;
        let mut addresses: BTreeMap<Principal, Vec<Address>> = BTreeMap::new();
        for row in &rows {
            let dial: String = self.get(row, "dial")?;
            let dial = if dial.is_empty() { None } else { Some(self.address(&dial)?) };
            let service = self.address(&self.get::<String>(row, "service")?)?;
            addresses.entry(self.principal(row)?).or_default().push(Address { service, dial });
        }
        Ok(addresses)
    }

    async fn begin(&self) -> Result<Db<'static>, StoreError> {
        self.pool.begin().await.map_err(|e| self.database(e))
    }

    /// Begins a change. The revision goes first: it takes the lock for writing before anything is read.
    async fn change(&self) -> Result<Db<'static>, StoreError> {
        let mut db = self.begin().await?;
        self.run(sqlx::query("UPDATE meta SET value = value + 1 WHERE name = 'revision'"), &mut db).await?;
        Ok(db)
    }

    async fn commit(&self, db: Db<'_>) -> Result<(), StoreError> {
        db.commit().await.map_err(|e| self.database(e))
    }

    async fn run(&self, query: Query<'_>, db: &mut Db<'_>) -> Result<u64, StoreError> {
        query.execute(&mut **db).await.map(|done| done.rows_affected()).map_err(|e| self.database(e))
    }

    async fn forget_addresses(&self, db: &mut Db<'_>, principal: Principal) -> Result<(), StoreError> {
        let [network, denomination, serial] = columns(principal);
        let delete =
            sqlx::query("DELETE FROM addresses WHERE network = $1 AND denomination = $2 AND serial = $3");
        self.run(delete.bind(network).bind(denomination).bind(serial), db).await.map(drop)
    }

    async fn meta(&self, db: &mut Db<'_>, name: &str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = $1").bind(name.to_owned());
        let row = row.fetch_optional(&mut **db).await.map_err(|e| self.database(e))?;
        self.get(&row.ok_or_else(|| self.damaged("an entry of the table meta"))?, "value")
    }

    fn principal(&self, row: &AnyRow) -> Result<Principal, StoreError> {
        self.principal_in(row, ["network", "denomination", "serial"])
    }

    fn principal_in(
        &self,
        row: &AnyRow,
        [network, denomination, serial]: [&str; 3],
    ) -> Result<Principal, StoreError> {
        let damaged = |_| self.damaged("a principal");
        Ok(Principal {
            network: u16::try_from(self.get::<i64>(row, network)?).map_err(damaged)?,
            denomination: i8::try_from(self.get::<i64>(row, denomination)?).map_err(damaged)?,
            serial: u32::try_from(self.get::<i64>(row, serial)?).map_err(damaged)?,
        })
    }

    fn address(&self, text: &str) -> Result<SocketAddr, StoreError> {
        text.parse().map_err(|_| self.damaged("an address"))
    }

    fn get<'r, T: sqlx::Decode<'r, Any> + sqlx::Type<Any>>(
        &self,
        row: &'r AnyRow,
        column: &str,
    ) -> Result<T, StoreError> {
        row.try_get(column).map_err(|e| self.database(e))
    }

    fn database(&self, source: sqlx::Error) -> StoreError {
        StoreError::Database { path: self.path.clone(), source }
    }

    fn damaged(&self, what: &str) -> StoreError {
        self.content(format!("{what} is missing or damaged; restore the store from a copy"))
    }

    fn content(&self, what: String) -> StoreError {
        StoreError::Content { path: self.path.clone(), what }
    }
}

fn of_server(role: Role, principal: Principal, all: &mut BTreeMap<Principal, Vec<Address>>) -> Vec<Address> {
    match role {
        Role::Server => all.remove(&principal).unwrap_or_default(),
        Role::Client => Vec::new(),
    }
}

type Query<'q> = sqlx::query::Query<'q, Any, <Any as sqlx::Database>::Arguments>;

fn columns(principal: Principal) -> [i64; 3] {
    [principal.network.into(), principal.denomination.into(), principal.serial.into()]
}

/// Binds $1 to $4.
fn which(query: Query<'_>, principal: Principal, role: Option<Role>) -> Query<'_> {
    let [network, denomination, serial] = columns(principal);
    query.bind(network).bind(denomination).bind(serial).bind(role.map_or(0, |role| i64::from(role as u8)))
}
