//! Whom operators permit to enrol which principal, and the enrolments that follow (`docs/protocol.md`, 20.15 to 20.19).

use super::{Db, Store, StoreError, columns, which};
use qsocket_proto::crypto::schedule::hop::AuthenticityNumber;
use qsocket_proto::ids::{Principal, Role};
use qsocket_proto::raida_key::equal;
use qsocket_proto::relay::{MAX_ROUTES, Quota};
use raida_relay::principals::{Enrolled, MAX_PERMITS};
use sqlx::any::AnyRow;

/// Whom the operator permits to enrol which principal, until when; `drawn` is 1 from the first number on that was kept so.
pub(super) const PERMITS: &str = "CREATE TABLE permits (network INTEGER NOT NULL, denomination INTEGER NOT NULL, \
     serial INTEGER NOT NULL, role INTEGER NOT NULL, by_network INTEGER NOT NULL, by_denomination INTEGER NOT NULL, \
     by_serial INTEGER NOT NULL, until INTEGER NOT NULL, drawn INTEGER NOT NULL, \
     PRIMARY KEY (network, denomination, serial, role))";

/// A permit of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// Who may be enrolled.
    pub(crate) principal: Principal,
    /// In which role.
    pub(crate) role: Role,
    /// By whom.
    pub(crate) sponsor: Principal,
    /// Seconds since 1970.
    pub(crate) until: u64,
    /// A number was kept, and is not used yet.
    pub(crate) drawn: bool,
}

impl Store {
    /// Permits a principal to enrol another one, or changes for how long or whom.
    ///
    /// # Errors
    /// When the principal is known already, or there are [`MAX_PERMITS`].
    pub(crate) async fn permit(&self, permit: Permit, now: u64) -> Result<(), StoreError> {
        let Permit { principal, role, sponsor, until, .. } = permit;
        let mut db = self.change().await?;
        let network = self.meta(&mut db, "network").await?;
        for who in [principal, sponsor] {
            if network != i64::from(who.network) {
                return Err(StoreError::Refused(format!(
                    "{who} belongs to network {}, and this relay to network {network}",
                    who.network
                )));
            }
        }
        self.run(sqlx::query("DELETE FROM permits WHERE until <= $1").bind(now as i64), &mut db).await?;
        let permits = self.read_permits(&mut db).await?;
        let before = permits.iter().find(|p| (p.principal, p.role) == (principal, role));
        if before.is_none() && permits.len() >= MAX_PERMITS {
            return Err(StoreError::Refused(format!(
                "there are {MAX_PERMITS} permits, the most there may be; `enroll permits` shows them, `enroll unpermit` takes \
                 one back"
            )));
        }
        let drawn = before.is_some_and(|p| p.drawn);
        if !drawn && self.banned(&mut db, (principal, role)).await?.is_some() {
            return Err(StoreError::Refused(format!(
                "the relay knows {principal} in this role already; `principal remove` forgets it"
            )));
        }
        let insert = sqlx::query(
            "INSERT INTO permits (network, denomination, serial, role, by_network, by_denomination, by_serial, until, \
             drawn) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0) \
             ON CONFLICT (network, denomination, serial, role) DO UPDATE SET by_network = excluded.by_network, \
             by_denomination = excluded.by_denomination, by_serial = excluded.by_serial, until = excluded.until",
        );
        let [network, denomination, serial] = columns(principal);
        let [by_network, by_denomination, by_serial] = columns(sponsor);
        let insert = insert.bind(network).bind(denomination).bind(serial).bind(role as i32);
        let insert = insert.bind(by_network).bind(by_denomination).bind(by_serial);
        self.run(insert.bind(i64::try_from(until).unwrap_or(i64::MAX)), &mut db).await?;
        self.commit(db).await
    }

    /// Takes permits back: in one role or both. Returns how many.
    pub(crate) async fn unpermit(&self, principal: Principal, role: Option<Role>) -> Result<u64, StoreError> {
        let mut db = self.change().await?;
        let forgotten = self.forget_permits(&mut db, principal, role).await?;
        self.commit(db).await?;
        Ok(forgotten)
    }

    /// All permits that are not used up, those that are over included.
    pub(crate) async fn permits(&self) -> Result<Vec<Permit>, StoreError> {
        let mut db = self.begin().await?;
        self.read_permits(&mut db).await
    }

    /// Keeps the first number of a principal that another one enrols.
    pub(crate) async fn enrol(
        &self,
        now: u64,
        sponsor: Principal,
        (principal, role): (Principal, Role),
        number: &AuthenticityNumber,
    ) -> Result<Enrolled, StoreError> {
        let mut db = self.change().await?;
        let permits = self.read_permits(&mut db).await?;
        let fits =
            |p: &&Permit| (p.principal, p.role, p.sponsor) == (principal, role, sponsor) && now < p.until;
        let Some(permit) = permits.iter().find(fits) else { return Ok(Enrolled::NotPermitted) };
        match self.banned(&mut db, (principal, role)).await? {
            None => {}
            Some(false) if permit.drawn => {}
            Some(_) => return Ok(Enrolled::NotPermitted),
        }
        let insert = sqlx::query(
            "INSERT INTO principals (network, denomination, serial, role, number, banned, reason, since, \
             connections, bytes_per_second) VALUES ($1, $2, $3, $4, $5, 0, '', 0, $6, 0) \
             ON CONFLICT (network, denomination, serial, role) DO UPDATE SET number = excluded.number",
        );
        let [network, denomination, serial] = columns(principal);
        let insert = insert.bind(network).bind(denomination).bind(serial).bind(role as i32);
        let insert = insert.bind(number.expose()).bind(Quota::default().routes.min(MAX_ROUTES) as i64);
        self.run(insert, &mut db).await?;
        self.forget_next(&mut db, principal, Some(role)).await?;
        let drawn = sqlx::query(
            "UPDATE permits SET drawn = 1 \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        self.run(which(drawn, principal, Some(role)), &mut db).await?;
        self.commit(db).await?;
        Ok(Enrolled::Kept)
    }

    /// A principal used the number that it was enrolled with: the permit is used up, unless another number counts.
    pub(crate) async fn arrive(
        &self,
        who: (Principal, Role),
        number: &AuthenticityNumber,
    ) -> Result<Enrolled, StoreError> {
        let mut db = self.change().await?;
        let all = self.read(&mut db).await?;
        let counts = all.iter().any(|(entry, kept)| {
            (entry.principal, entry.role) == who && entry.banned.is_none() && equal(kept, number)
        });
        if !counts {
            return Ok(Enrolled::NotPermitted);
        }
        self.forget_permits(&mut db, who.0, Some(who.1)).await?;
        self.commit(db).await?;
        Ok(Enrolled::Kept)
    }

    pub(super) async fn read_permits(&self, db: &mut Db<'_>) -> Result<Vec<Permit>, StoreError> {
        if self.meta(db, "schema").await? < 3 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT network, denomination, serial, role, by_network, by_denomination, by_serial, until, drawn \
             FROM permits ORDER BY network, denomination, serial, role",
        );
        let rows = rows.fetch_all(&mut **db).await.map_err(|e| self.database(e))?;
        let one = |row: &AnyRow| {
            Ok(Permit {
                principal: self.principal(row)?,
                role: self.role(row)?,
                sponsor: self.principal_in(row, ["by_network", "by_denomination", "by_serial"])?,
                until: self.get::<i64>(row, "until")?.unsigned_abs(),
                drawn: self.get::<i64>(row, "drawn")? != 0,
            })
        };
        rows.iter().map(one).collect()
    }

    /// Forgets permits for a principal in one role or both.
    pub(super) async fn forget_permits(
        &self,
        db: &mut Db<'_>,
        principal: Principal,
        role: Option<Role>,
    ) -> Result<u64, StoreError> {
        let delete = sqlx::query(
            "DELETE FROM permits \
             WHERE network = $1 AND denomination = $2 AND serial = $3 AND ($4 = 0 OR role = $4)",
        );
        self.run(which(delete, principal, role), db).await
    }
}
