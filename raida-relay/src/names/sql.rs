//! Names in a database: SQLite for a relay on one machine, PostgreSQL for one that is several processes.
//!
//! One text of SQL for both, through sqlx's `Any` driver, with bytes as hex digits, as for posts. A change is one
//! transaction that first writes to the row that all changes of this relay write to: so they happen one after the other
//! in both databases, and quotas and numbers are exact.

use super::{Ask, Decided, Facts, Held, LedgerEntry, Names, NamesFailed, Rows, Rule, Terms, Write};
use crate::posts::{hex, unhex};
use async_trait::async_trait;
use qsocket_proto::call::Status;
use qsocket_proto::ids::{PathId, Principal};
use qsocket_proto::names::{Name, Payment, PaymentKind, PaymentState, Record, Standing};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyPool, Row, Transaction};
use std::num::NonZeroU32;

/// `ends` is the end of the term of a name with paid years, and of one without when it was registered. `decided_by` is
/// empty where nobody decided and the name is gone.
const SCHEMA: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS name_changes (relay BIGINT NOT NULL PRIMARY KEY, count BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS names (relay BIGINT NOT NULL, name TEXT NOT NULL, number BIGINT NOT NULL, \
     owner TEXT NOT NULL, record TEXT NOT NULL, years BIGINT NOT NULL, asked BIGINT NOT NULL, ends BIGINT NOT NULL, \
     PRIMARY KEY (relay, name), UNIQUE (relay, number))",
    "CREATE INDEX IF NOT EXISTS names_by_owner ON names (relay, owner)",
    "CREATE INDEX IF NOT EXISTS names_by_end ON names (relay, ends)",
    "CREATE TABLE IF NOT EXISTS name_payments (relay BIGINT NOT NULL, reference TEXT NOT NULL, name TEXT NOT NULL, \
     payer TEXT NOT NULL, kind BIGINT NOT NULL, years BIGINT NOT NULL, amount BIGINT NOT NULL, \
     currency TEXT NOT NULL, asked BIGINT NOT NULL, state BIGINT NOT NULL, decided BIGINT NOT NULL, \
     decided_by TEXT NOT NULL, PRIMARY KEY (relay, reference))",
    "CREATE INDEX IF NOT EXISTS name_payments_by_name ON name_payments (relay, name)",
    "CREATE INDEX IF NOT EXISTS name_payments_by_payer ON name_payments (relay, payer)",
    "CREATE INDEX IF NOT EXISTS name_payments_by_state ON name_payments (relay, state)",
];

/// Names of this relay, as [`held_in`] reads them.
macro_rules! names {
    ($which:literal) => {
        concat!("SELECT record, years, asked FROM names WHERE relay = $1 ", $which)
    };
}

/// Rows of this relay's ledger, as [`entry_in`] reads them.
macro_rules! ledger {
    ($which:literal) => {
        concat!(
            "SELECT reference, name, payer, kind, years, amount, currency, asked, state, decided, decided_by \
             FROM name_payments WHERE relay = $1 ",
            $which
        )
    };
}

/// One relay's names in a database that it may share with other relays, and with other processes of this one.
#[derive(Clone, Debug)]
pub struct SqlNames {
    pool: AnyPool,
    relay: i64,
}

type Db = Transaction<'static, Any>;
type Statement<'q> = Query<'q, Any, AnyArguments>;

impl From<sqlx::Error> for NamesFailed {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}

/// What stands in a column was not written by this program.
fn foreign(column: &str) -> NamesFailed {
    NamesFailed(format!(
        "the column {column} holds what no relay wrote; another program wrote into the table"
    ))
}

/// The database counts in signed numbers; times and amounts are far below that end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl SqlNames {
    /// Uses a database; makes the tables in it if there are none.
    ///
    /// # Errors
    /// When the database refuses.
    ///
    /// # Cancel safety
    /// Safe: it makes what is missing, and may be called again.
    pub async fn new(pool: AnyPool, relay: PathId) -> Result<Self, NamesFailed> {
        for statement in SCHEMA {
            // Of two processes that make a table at once, PostgreSQL may tell one of them that it is there.
            let mut made = sqlx::query(statement).execute(&pool).await;
            if made.is_err() {
                made = sqlx::query(statement).execute(&pool).await;
            }
            made?;
        }
        let relay = i64::from(relay.get());
        let row = "INSERT INTO name_changes (relay, count) VALUES ($1, 0) ON CONFLICT (relay) DO NOTHING";
        sqlx::query(row).bind(relay).execute(&pool).await?;
        Ok(Self { pool, relay })
    }

    /// Begins a change, when all those before it are over.
    async fn begin(&self) -> Result<Db, NamesFailed> {
        let mut db = self.pool.begin().await?;
        let turn = sqlx::query("UPDATE name_changes SET count = count + 1 WHERE relay = $1").bind(self.relay);
        turn.execute(&mut *db).await?;
        Ok(db)
    }

    async fn run(&self, db: &mut Db, statement: Statement<'_>) -> Result<u64, NamesFailed> {
        Ok(statement.execute(&mut **db).await?.rows_affected())
    }

    async fn remove_what_is_over(&self, db: &mut Db, now: u64, terms: &Terms) -> Result<u64, NamesFailed> {
        let before = |time: std::time::Duration| signed(now).saturating_sub(signed(time.as_secs()));
        let (asked, ended) = (before(terms.hold), before(terms.grace));
        let names = sqlx::query(
            "DELETE FROM names WHERE relay = $1 AND ((years = 0 AND ends <= $2) OR (years > 0 AND ends <= $3))",
        );
        let freed = self.run(db, names.bind(self.relay).bind(asked).bind(ended)).await?;
        let void = sqlx::query(
            "UPDATE name_payments SET state = 2, decided = $2 WHERE relay = $1 AND state = 0 \
             AND name NOT IN (SELECT name FROM names WHERE relay = $1)",
        );
        self.run(db, void.bind(self.relay).bind(signed(now))).await?;
        let ledger = sqlx::query(
            "DELETE FROM name_payments WHERE relay = $1 AND state <> 1 AND decided_by = '' AND asked <= $2",
        );
        self.run(db, ledger.bind(self.relay).bind(asked)).await?;
        Ok(freed)
    }

    async fn facts(&self, db: &mut Db, now: u64, terms: &Terms, ask: Ask<'_>) -> Result<Facts, NamesFailed> {
        let held = sqlx::query(names!("AND name = $2"));
        let held = held.bind(self.relay).bind(ask.name.label().to_owned()).fetch_optional(&mut **db).await?;
        let mut facts = Facts { held: held.map(|row| held_in(&row)).transpose()?, ..Facts::default() };
        if let Some(number) = ask.number {
            let select = sqlx::query("SELECT name FROM names WHERE relay = $1 AND number = $2");
            let row = select.bind(self.relay).bind(i64::from(number.get())).fetch_optional(&mut **db).await?;
            facts.number_of = row.map(|row| name_in(&row, 0)).transpose()?;
        }
        if let Some(owner) = ask.owner {
            let count = sqlx::query("SELECT COUNT(*) FROM names WHERE relay = $1 AND owner = $2");
            facts.names =
                counted(&count.bind(self.relay).bind(owner.to_string()).fetch_one(&mut **db).await?)?;
        }
        if let Some(payer) = ask.payer {
            let count = sqlx::query(
                "SELECT COUNT(*) FROM name_payments WHERE relay = $1 AND payer = $2 AND state <> 1 AND asked > $3",
            );
            let asked = signed(now).saturating_sub(signed(terms.hold.as_secs()));
            let count = count.bind(self.relay).bind(payer.to_string()).bind(asked);
            facts.payments = counted(&count.fetch_one(&mut **db).await?)?;
        }
        if let Some(reference) = ask.reference {
            let select =
                sqlx::query(ledger!("AND reference = $2")).bind(self.relay).bind(reference.to_string());
            let row = select.fetch_optional(&mut **db).await?;
            facts.entry = row.map(|row| entry_in(&row)).transpose()?;
        }
        let open = sqlx::query(ledger!("AND name = $2 AND state = 0 ORDER BY asked DESC, reference DESC"))
            .bind(self.relay)
            .bind(ask.name.label().to_owned());
        for row in open.fetch_all(&mut **db).await? {
            facts.open.push(entry_in(&row)?.payment);
        }
        Ok(facts)
    }

    async fn write(&self, db: &mut Db, now: u64, name: &Name, write: Write) -> Result<(), NamesFailed> {
        let name = name.label().to_owned();
        match write {
            Write::Hold(held) => {
                let ends = if held.years == 0 { held.asked } else { held.until() };
                let put = sqlx::query(
                    "INSERT INTO names (relay, name, number, owner, record, years, asked, ends) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (relay, name) DO UPDATE SET \
                     number = excluded.number, owner = excluded.owner, record = excluded.record, \
                     years = excluded.years, asked = excluded.asked, ends = excluded.ends",
                );
                let put = put.bind(self.relay).bind(name).bind(i64::from(held.record.number.get()));
                let put = put.bind(held.record.owner.to_string()).bind(hex(&held.record.encode()));
                let put = put.bind(i64::from(held.years)).bind(signed(held.asked)).bind(signed(ends));
                self.run(db, put).await?;
            }
            Write::Free => {
                let free = sqlx::query("DELETE FROM names WHERE relay = $1 AND name = $2");
                self.run(db, free.bind(self.relay).bind(name.clone())).await?;
                let void = sqlx::query(
                    "UPDATE name_payments SET state = 2, decided = $3 \
                     WHERE relay = $1 AND name = $2 AND state = 0",
                );
                self.run(db, void.bind(self.relay).bind(name).bind(signed(now))).await?;
            }
            Write::Ask(entry) => {
                let Payment { reference, kind, years, amount, currency, state } = entry.payment;
                let ask = sqlx::query(
                    "INSERT INTO name_payments (relay, reference, name, payer, kind, years, amount, currency, asked, \
                     state, decided, decided_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, '')",
                );
                let ask = ask.bind(self.relay).bind(reference.to_string()).bind(name);
                let ask = ask.bind(entry.payer.to_string()).bind(kind as i64).bind(i64::from(years));
                let ask = ask.bind(signed(amount)).bind(currency.to_string());
                let ask = ask.bind(signed(entry.asked)).bind(state as i64);
                self.run(db, ask).await?;
            }
            Write::Decide(reference, state, Decided { at, by }) => {
                let decide = sqlx::query(
                    "UPDATE name_payments SET state = $3, decided = $4, decided_by = $5 \
                     WHERE relay = $1 AND reference = $2",
                );
                let decide = decide.bind(self.relay).bind(reference.to_string());
                self.run(db, decide.bind(state as i64).bind(signed(at)).bind(by)).await?;
            }
        }
        Ok(())
    }
}

fn held_in(row: &AnyRow) -> Result<Held, NamesFailed> {
    let record: String = row.try_get(0)?;
    let record = unhex(&record).map_err(|e| NamesFailed(e.0))?;
    let record = Record::decode(&record).map_err(|_| foreign("record"))?;
    let years = u32::try_from(row.try_get::<i64, _>(1)?).map_err(|_| foreign("years"))?;
    Ok(Held { record, years, asked: time_in(row, 2)? })
}

fn name_in(row: &AnyRow, column: usize) -> Result<Name, NamesFailed> {
    let name: String = row.try_get(column)?;
    Name::from_label(name.as_bytes()).map_err(|_| foreign("name"))
}

fn time_in(row: &AnyRow, column: usize) -> Result<u64, NamesFailed> {
    u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_| foreign("asked"))
}

fn counted(row: &AnyRow) -> Result<u32, NamesFailed> {
    Ok(u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(u32::MAX))
}

fn entry_in(row: &AnyRow) -> Result<LedgerEntry, NamesFailed> {
    let text = |column| row.try_get::<String, _>(column);
    let number = |column| row.try_get::<i64, _>(column);
    let kind = match number(3)? {
        1 => PaymentKind::Registration,
        2 => PaymentKind::Renewal,
        _ => return Err(foreign("kind")),
    };
    let state = match number(8)? {
        0 => PaymentState::Asked,
        1 => PaymentState::Confirmed,
        2 => PaymentState::Refused,
        _ => return Err(foreign("state")),
    };
    let payment = Payment {
        reference: text(0)?.parse().map_err(|_| foreign("reference"))?,
        kind,
        years: u8::try_from(number(4)?).map_err(|_| foreign("years"))?,
        amount: u64::try_from(number(5)?).map_err(|_| foreign("amount"))?,
        currency: text(6)?.parse().map_err(|_| foreign("currency"))?,
        state,
    };
    let decided = match state {
        PaymentState::Asked => None,
        PaymentState::Confirmed | PaymentState::Refused => {
            Some(Decided { at: time_in(row, 9)?, by: text(10)? })
        }
    };
    let payer: Principal = text(2)?.parse().map_err(|_| foreign("payer"))?;
    Ok(LedgerEntry { payment, name: name_in(row, 1)?, payer, asked: time_in(row, 7)?, decided })
}

#[async_trait]
impl Names for SqlNames {
    async fn change(
        &self,
        now: u64,
        terms: &Terms,
        ask: Ask<'_>,
        rule: Rule<'_>,
    ) -> Result<Result<Standing, Status>, NamesFailed> {
        let mut db = self.begin().await?;
        self.remove_what_is_over(&mut db, now, terms).await?;
        let facts = self.facts(&mut db, now, terms, ask).await?;
        match rule(&facts) {
            Ok((standing, writes)) if !writes.is_empty() => {
                for write in writes {
                    self.write(&mut db, now, ask.name, write).await?;
                }
                // What is answered is kept for good, even if the process ends now.
                db.commit().await?;
                Ok(Ok(standing))
            }
            // What was over goes with the next sweep: who asks in vain does not have the disk written.
            Ok((standing, _)) => {
                db.rollback().await?;
                Ok(Ok(standing))
            }
            Err(status) => {
                db.rollback().await?;
                Ok(Err(status))
            }
        }
    }

    async fn find(&self, name: &Name) -> Result<Option<Held>, NamesFailed> {
        let select = sqlx::query(names!("AND name = $2")).bind(self.relay).bind(name.label().to_owned());
        select.fetch_optional(&self.pool).await?.map(|row| held_in(&row)).transpose()
    }

    async fn find_number(&self, number: NonZeroU32) -> Result<Option<Held>, NamesFailed> {
        let select = sqlx::query(names!("AND number = $2")).bind(self.relay).bind(i64::from(number.get()));
        select.fetch_optional(&self.pool).await?.map(|row| held_in(&row)).transpose()
    }

    async fn list(&self) -> Result<Vec<Held>, NamesFailed> {
        // Not sorted by the database, whose order of letters may be that of a language.
        let rows = sqlx::query(names!("")).bind(self.relay).fetch_all(&self.pool).await?;
        let mut all = rows.iter().map(held_in).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(all)
    }

    async fn ledger(&self, rows: Rows<'_>) -> Result<Vec<LedgerEntry>, NamesFailed> {
        let select = match rows {
            Rows::All => sqlx::query(ledger!("ORDER BY asked DESC, reference DESC")).bind(self.relay),
            Rows::In(state) => {
                let select = ledger!("AND state = $2 ORDER BY asked DESC, reference DESC");
                sqlx::query(select).bind(self.relay).bind(state as i64)
            }
            Rows::Reference(reference) => {
                sqlx::query(ledger!("AND reference = $2")).bind(self.relay).bind(reference.to_string())
            }
            Rows::Newest { name, payer, most } => {
                let select =
                    ledger!("AND name = $2 AND payer = $3 ORDER BY asked DESC, reference DESC LIMIT $4");
                let select = sqlx::query(select).bind(self.relay).bind(name.label().to_owned());
                select.bind(payer.to_string()).bind(signed(most as u64))
            }
        };
        select.fetch_all(&self.pool).await?.iter().map(entry_in).collect()
    }

    async fn sweep(&self, now: u64, terms: &Terms) -> Result<u64, NamesFailed> {
        let mut db = self.begin().await?;
        let freed = self.remove_what_is_over(&mut db, now, terms).await?;
        db.commit().await?;
        Ok(freed)
    }
}

#[cfg(test)]
mod tests;
