//! Keys that come from files and go to files.

use super::{Session, matching, raida_installed, stored};
use crate::cli::{ExportArgs, ImportArgs, ImportCoinArgs, KeyRef, When};
use crate::output::{self, tell};
use crate::passphrase::{self, PIPE};
use anyhow::{Context, bail};
use qsocket::keys::cloudcoin::{self, NeverUsedElsewhere};
use qsocket::keys::sealed::{AnyKey, Cost, Exported, SealedKey, load_exported, read_exported};
use qsocket::keys::{KeyInfo, KeyState, KeyStore, Origin, StoredKey};
use qsocket_files::program::say;
use serde_json::json;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// What stands for standard input and output.
const DASH: &str = "-";

/// `keys import`.
///
/// # Errors
/// What is refused, and what to do.
pub(super) fn import(this: &Session, args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let piped = args.file == Path::new(DASH);
    let file = if piped { read_exported(io::stdin().lock(), PIPE)? } else { load_exported(&args.file)? };
    let sealed = matches!(file, Exported::Sealed(_));
    let key = match file {
        Exported::Open(key) => key,
        Exported::Sealed(sealed) => sealed.open(&passphrase::read(&args.passphrase, piped)?)?,
    };
    match key {
        AnyKey::Raida(key) => {
            let for_encryption = [
                ("--with", args.with.is_some()),
                ("--own", args.own.is_some()),
                ("--name", args.name.is_some()),
                ("--expires", args.expires.is_some()),
                ("--rotate", args.rotate),
            ];
            if let Some((flag, _)) = for_encryption.iter().find(|(_, given)| *given) {
                bail!("the file holds a RAIDA key; {flag} is for Encryption keys: leave it out");
            }
            let store = this.make()?;
            let installed = store.install_raida_key(&key)?;
            raida_installed(this, &store, &key, installed)
        }
        AnyKey::Encryption(key) => import_encryption(this, args, &key, sealed),
    }
}

fn import_encryption(
    this: &Session,
    args: &ImportArgs,
    key: &StoredKey,
    sealed: bool,
) -> anyhow::Result<ExitCode> {
    let Some(secret) = key.secret() else {
        bail!("the file holds a revoked key, which has no secret; import another one");
    };
    let from = key.info();
    let origin = match from.origin {
        // A copy of a key that came from the relays is one.
        origin @ Origin::Exchanged { .. } => origin,
        _ => Origin::Imported,
    };
    let mut info = KeyInfo::new(from.id, args.with.unwrap_or(from.with), origin);
    info.own = args.own.or(from.own);
    // A name settles who answers behind it, and whoever makes an open file can write any into it.
    let (kept, dropped) = if sealed { (from.name.clone(), None) } else { (None, from.name.as_ref()) };
    info.name = args.name.clone().or(kept);
    info.expires = from.expires;
    info.state = from.state;
    if let Some(When(at)) = args.expires {
        info = info.with_expiry(at);
    }
    let key = stored(info, secret.clone())?;
    let store = this.make()?;
    let new = store.get(key.id())?.is_none();
    let (installed, retired) = if args.rotate {
        let retired = store.rotate(&key, args.old_until.map(|When(at)| at))?;
        (if new { qsocket::keys::Installed::New } else { qsocket::keys::Installed::Same }, retired)
    } else {
        (store.install(&key)?, Vec::new())
    };
    let stands = store.get(key.id())?.context("the key was removed meanwhile")?;
    let what = format!("Encryption key {:?} with {}", key.id(), key.info().with);
    if let Some(name) = dropped.filter(|_| stands.info().name.is_none()) {
        let id = key.id();
        eprintln!(
            "qsocket: the file calls the other party {name}, and the key is in the folder without a name, because a name \
             settles who answers behind it; if it is right: keys remove {id:?}, and import again with --name {name}"
        );
    }
    this.installed(&store, output::encryption(&store, stands.info(), this.now), &what, installed, &retired)
}

/// `keys import-coin`.
///
/// # Errors
/// Without the statement, and what is refused.
pub(super) fn import_coin(this: &Session, args: &ImportCoinArgs) -> anyhow::Result<ExitCode> {
    if !args.never_used_elsewhere {
        bail!(
            "public RAIDA encryption shows a coin's numbers to whoever listens, so a coin that was used with any other \
             program or service protects nothing. If this one never was and never will be, say so with \
             --never-used-elsewhere; better is a key that was made for QSocket: `raida-relay enroll`"
        );
    }
    let key = cloudcoin::load(&args.file, args.role.into(), args.network, NeverUsedElsewhere)?;
    let store = this.make()?;
    let installed = store.install_raida_key(&key)?;
    raida_installed(this, &store, &key, installed)
}

/// `keys export`.
///
/// # Errors
/// What is refused, and what to do.
pub(super) fn export(this: &Session, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    let key = chosen(&store, this, args)?;
    let piped = args.file == Path::new(DASH);
    if piped && io::stdout().is_terminal() {
        bail!("a key does not go to a terminal; name a file, or redirect the output");
    }
    if piped && this.json {
        bail!("standard output takes either the key or --json; name a file");
    }
    if !piped && args.file.symlink_metadata().is_ok() {
        bail!("{} is there already; name a new file", args.file.display());
    }
    if args.plain {
        match piped {
            true => say(key.text().as_bytes())?,
            false => key.save(&args.file)?,
        }
    } else {
        let sealed = SealedKey::seal(&key, &passphrase::read(&args.passphrase, false)?, Cost::default())?;
        match piped {
            true => say(sealed.text().as_bytes())?,
            false => sealed.save(&args.file)?,
        }
    }
    if !piped {
        let file = args.file.display().to_string();
        tell(
            this.json,
            || json!({ "file": file, "sealed": !args.plain }),
            || {
                let how = if args.plain {
                    "whoever can read it has the key; erase it when it is where it belongs"
                } else {
                    "under the passphrase"
                };
                format!("{file} holds the key, {how}\n")
            },
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The key to export, as it is or as the other party needs it.
fn chosen(store: &KeyStore, this: &Session, args: &ExportArgs) -> anyhow::Result<AnyKey> {
    if let KeyRef::Raida(principal, role) = &args.which.key {
        if args.for_peer {
            bail!("a RAIDA key is its principal's alone; --for-peer is for Encryption keys");
        }
        return Ok(AnyKey::Raida(store.raida_key(*principal, *role)?));
    }
    let found = matching(store, &store.keyring()?, &args.which.key)?;
    let active: Vec<_> = found.iter().filter(|key| key.info().opens(this.now)).cloned().collect();
    let key: &Arc<StoredKey> = match (&found[..], &active[..]) {
        ([one], _) | (_, [one]) => one,
        _ => bail!("{} keys are called so; name one by its id: `qsocket keys list`", found.len()),
    };
    let info = key.info();
    let Some(secret) = key.secret() else { bail!("{:?} is revoked; its secret is gone", info.id) };
    if !args.for_peer {
        return Ok(AnyKey::Encryption(StoredKey::clone(key)));
    }
    if info.state != KeyState::Active {
        bail!("{:?} is retired; the other party needs the key that took over", info.id);
    }
    let Some(own) = info.own else {
        bail!(
            "the key does not say which principal this side is; generate or import keys with --own, or export without \
             --for-peer and import there with --with"
        );
    };
    let mut theirs = KeyInfo::new(info.id, own, Origin::PreShared).with_own(info.with);
    (theirs.created, theirs.expires) = (None, info.expires);
    Ok(AnyKey::Encryption(stored(theirs, secret.clone())?))
}
