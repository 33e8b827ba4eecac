//! The log: where it goes, how it looks, how much it says.

use anyhow::Context;
use std::io;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// For people and journals.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The crates that a plain level is about. What other crates say stays at `warn`: their details are about HTTP and SQL.
const OURS: [&str; 3] = ["raida_relay", "qsocket_proto", "qsocket_files"];

/// Changes the level of the log while the program runs.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Says from now on what `level` lets through, as in [`init`].
    ///
    /// # Errors
    /// When `level` is not a level or a filter; the old one stays then.
    pub(crate) fn set_level(&self, level: &str) -> anyhow::Result<()> {
        self.filter.reload(filter(level)?).context("the log has ended")
    }
}

/// Starts the log of the process, on standard error.
///
/// `level` is `error`, `warn`, `info`, `debug` or `trace`, for the crates of this project; or a tracing filter such as
/// `info,raida_relay=debug`, taken as it is.
///
/// # Errors
/// When `level` is neither, or a log was started before.
///
/// # Security
/// No level shows secrets or what records carry. From `debug` on the log has addresses and serial numbers of peers.
pub(crate) fn init(level: &str, format: Format) -> anyhow::Result<Log> {
    let (subscriber, log) = subscriber(level, format, io::stderr)?;
    subscriber.try_init().context("a log was started before")?;
    Ok(log)
}

/// Whether `level` is a level or a filter, for checks of a configuration.
///
/// # Errors
/// When it is not, with what to write.
pub(crate) fn check(level: &str) -> anyhow::Result<()> {
    filter(level).map(|_| ())
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    let directives = match level {
        "error" => level.to_owned(),
        "warn" | "info" | "debug" | "trace" => {
            OURS.iter().fold("warn".to_owned(), |all, name| format!("{all},{name}={level}"))
        }
        // Upper case and numbers are levels to the filter, for all crates; a bare word would be a target.
        _ if level.contains(['=', ',']) => level.to_owned(),
        _ => anyhow::bail!(
            "{level:?} is not a log level: write error, warn, info, debug or trace, or a filter such as \
             \"info,raida_relay=debug\""
        ),
    };
    EnvFilter::try_new(&directives).with_context(|| {
        format!(
            "{level:?} is not a log filter: write for example \"info,raida_relay=debug\", or a plain level"
        )
    })
}

/// The log as a value, so that tests have one of their own.
fn subscriber<W>(
    level: &str,
    format: Format,
    writer: W,
) -> anyhow::Result<(impl Subscriber + Send + Sync, Log)>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(level)?);
    // Colours are for terminals, and the journal is none.
    let layer = fmt::layer().with_ansi(false).with_writer(writer);
    let layer = match format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(layer), Log { filter: handle }))
}

#[cfg(test)]
mod tests;
