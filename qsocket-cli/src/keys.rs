//! `qsocket keys`.

mod enrol;
mod rotate;
mod transfer;
mod verify;

use crate::cli::{
    Bits, GenerateArgs, GenerateKind, GenerateRaidaArgs, KeyRef, KeysArgs, KeysCommand, NewKeyArgs,
    RotateArgs, When,
};
use crate::output::{self, tell};
use anyhow::{Context, bail};
use qsocket::keys::{
    EncryptionKey, Installed, KeyId, KeyInfo, KeyState, KeyStore, Keyring, Origin, RaidaKeyInfo, StoredKey,
    Strength,
};
use qsocket::rng::OsRng;
use qsocket::{Principal, RaidaKey, Role};
use rand_core::Rng;
use serde_json::{Value, json};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The environment variable that names the folder.
const VARIABLE: &str = "QSOCKET_KEYS";

/// What a command works with.
struct Session {
    folder: PathBuf,
    json: bool,
    now: SystemTime,
}

impl Session {
    /// The folder, which is there.
    fn store(&self) -> anyhow::Result<KeyStore> {
        if !self.folder.exists() {
            bail!(
                "{} does not exist; generate or import a key, or name another folder with --dir",
                self.folder.display()
            );
        }
        Ok(KeyStore::open(&self.folder)?)
    }

    /// The folder, which is made if it is not there.
    fn make(&self) -> anyhow::Result<KeyStore> {
        if let Some(above) = self.folder.parent().filter(|above| !above.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(above);
            made.with_context(|| above.display().to_string())?;
        }
        Ok(KeyStore::create(&self.folder)?)
    }

    /// A key that was put into the folder.
    fn installed(
        &self,
        store: &KeyStore,
        key: Value,
        what: &str,
        installed: Installed,
        retired: &[KeyId],
    ) -> anyhow::Result<ExitCode> {
        let ids: Vec<_> = retired.iter().map(|id| format!("{id:?}")).collect();
        let was = if installed == Installed::New { "new" } else { "same" };
        let text = || {
            let state = if installed == Installed::New { "is in" } else { "was there before, in" };
            let mut out = format!("{what} {state} {}\n", store.path().display());
            for id in &ids {
                out += &format!("{id} is retired: accepted, and opens no connection\n");
            }
            out
        };
        tell(self.json, || json!({ "installed": was, "key": key, "retired": ids }), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Does what the command line says.
///
/// # Errors
/// What is refused, and what to do.
pub(crate) fn keys(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    let folder = folder(args.dir.as_deref(), |name| std::env::var_os(name).map(PathBuf::from))?;
    let this = Session { folder, json: args.json, now: SystemTime::now() };
    match &args.command {
        KeysCommand::List => list(&this),
        KeysCommand::Show(args) => show(&this, &args.key),
        KeysCommand::Generate(GenerateArgs { kind: GenerateKind::Encryption(args) }) => generate(&this, args),
        KeysCommand::Generate(GenerateArgs { kind: GenerateKind::Raida(args) }) => {
            generate_raida(&this, args)
        }
        KeysCommand::Import(args) => transfer::import(&this, args),
        KeysCommand::ImportCoin(args) => transfer::import_coin(&this, args),
        KeysCommand::Export(args) => transfer::export(&this, args),
        KeysCommand::Rotate(args) => rotate(&this, args),
        KeysCommand::Enrol(args) => enrol::enrol(&this, args),
        KeysCommand::Revoke(args) => revoke(&this, &args.key),
        KeysCommand::Remove(args) => remove(&this, &args.key),
        KeysCommand::Verify(args) => verify::verify(&this, args),
    }
}

/// Where the keys are.
fn folder(named: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(folder) = named {
        return Ok(folder.to_owned());
    }
    let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
    if let Some(folder) = variable(VARIABLE) {
        return Ok(folder);
    }
    // As the configuration file is found.
    let config = variable("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".config")));
    match config {
        Some(config) => Ok(config.join("qsocket").join("keys")),
        None => bail!("where are the keys? Name the folder with --dir or ${VARIABLE}; HOME is not set"),
    }
}

fn list(this: &Session) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    let contents = store.contents()?;
    let problems: Vec<_> = contents.problems.iter().map(ToString::to_string).collect();
    let document = || {
        let raida: Vec<_> = contents.raida.iter().map(|key| output::raida(&store, *key)).collect();
        let encryption: Vec<_> =
            contents.encryption.iter().map(|key| output::encryption(&store, key.info(), this.now)).collect();
        json!({
            "folder": store.path().display().to_string(),
            "raida": raida,
            "encryption": encryption,
            "problems": problems,
        })
    };
    let text = || {
        let mut out = String::new();
        for key in &contents.raida {
            out += &format!("raida:{}.{}  {}\n", key.principal, key.role, key.strength);
        }
        for key in contents.encryption.iter() {
            out += &output::encryption_line(key.info(), this.now);
        }
        if out.is_empty() { format!("{} holds no keys\n", store.path().display()) } else { out }
    };
    tell(this.json, document, text)?;
    for problem in &problems {
        eprintln!("qsocket: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The Encryption keys that a word on the command line means; there is at least one.
fn matching(store: &KeyStore, ring: &Keyring, key: &KeyRef) -> anyhow::Result<Vec<Arc<StoredKey>>> {
    let means = |info: &KeyInfo| match key {
        KeyRef::Id(id) => info.id == *id,
        KeyRef::Peer(principal) => info.with == *principal,
        KeyRef::Name(name) => info.name.as_ref() == Some(name),
        KeyRef::Raida(..) => false,
    };
    let found: Vec<_> = ring.iter().filter(|key| means(key.info())).cloned().collect();
    if found.is_empty() {
        let what = match key {
            KeyRef::Raida(..) => bail!("this is a RAIDA key; this command is for Encryption keys"),
            KeyRef::Id(id) => format!("no Encryption key {id:?}"),
            KeyRef::Peer(principal) => format!("no Encryption key with {principal}"),
            KeyRef::Name(name) => format!("no Encryption key with a party called {name}"),
        };
        bail!("{}: {what}; `qsocket keys list` shows which there are", store.path().display());
    }
    Ok(found)
}

/// The one Encryption key that is meant.
fn one(store: &KeyStore, key: &KeyRef) -> anyhow::Result<Arc<StoredKey>> {
    let found = matching(store, &store.keyring()?, key)?;
    match &found[..] {
        [one] => Ok(one.clone()),
        several => {
            let ids: Vec<_> = several.iter().map(|key| format!("\n  {:?}", key.id())).collect();
            bail!("{} keys are called so; name one by its id:{}", several.len(), ids.concat())
        }
    }
}

fn show(this: &Session, key: &KeyRef) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    if let KeyRef::Raida(principal, role) = key {
        let info = RaidaKeyInfo::from(&store.raida_key(*principal, *role)?);
        tell(this.json, || output::raida(&store, info), || output::raida_text(&store, info))?;
        return Ok(ExitCode::SUCCESS);
    }
    let found = matching(&store, &store.keyring()?, key)?;
    let documents = || {
        let mut all: Vec<_> =
            found.iter().map(|key| output::encryption(&store, key.info(), this.now)).collect();
        // One id, one document; a party may have several keys.
        if matches!(key, KeyRef::Id(_)) { all.swap_remove(0) } else { Value::Array(all) }
    };
    let text = || {
        let each: Vec<_> =
            found.iter().map(|key| output::encryption_text(&store, key.info(), this.now)).collect();
        each.join("\n")
    };
    tell(this.json, documents, text)?;
    Ok(ExitCode::SUCCESS)
}

/// Puts a key together, or says what does not go together.
fn stored(info: KeyInfo, secret: Arc<EncryptionKey>) -> anyhow::Result<StoredKey> {
    if let Some(own) = info.own {
        if own == info.with {
            bail!("{own} is both sides of the key; --with names the other party, --own this side");
        }
        if own.network != info.with.network {
            bail!(
                "{own} and {} are in different networks; only principals of one reach each other",
                info.with
            );
        }
    }
    StoredKey::new(info, secret).context("the id is all zero; agree on a key with another id")
}

/// A fresh id and a fresh secret.
fn draw() -> anyhow::Result<(KeyId, Arc<EncryptionKey>)> {
    let (mut id, mut secret) = ([0; 16], Zeroizing::new([0; 32]));
    OsRng.fill_bytes(&mut id);
    OsRng.fill_bytes(&mut *secret);
    Ok((KeyId(id), Arc::new(EncryptionKey::import(&*secret)?)))
}

fn generate(this: &Session, args: &NewKeyArgs) -> anyhow::Result<ExitCode> {
    let (id, secret) = draw()?;
    let mut info = KeyInfo::new(id, args.with, Origin::Generated);
    info.own = args.own;
    info.name.clone_from(&args.name);
    if let Some(When(at)) = args.expires {
        info = info.with_expiry(at);
    }
    let key = stored(info, secret)?;
    let store = this.make()?;
    let installed = store.install(&key)?;
    this.installed(
        &store,
        output::encryption(&store, key.info(), this.now),
        &format!("Encryption key {id:?} with {}", args.with),
        installed,
        &[],
    )
}

fn generate_raida(this: &Session, args: &GenerateRaidaArgs) -> anyhow::Result<ExitCode> {
    let strength = match args.bits {
        Bits::Bits128 => Strength::Bits128,
        Bits::Bits256 => Strength::Bits256,
    };
    let key = RaidaKey::generate(args.principal, args.role.into(), strength, &mut OsRng)?;
    let store = this.make()?;
    if store.raida_file(args.principal, key.role()).symlink_metadata().is_ok() {
        bail!(
            "{} is there already; a key is never overwritten: remove that one first",
            store.raida_file(args.principal, key.role()).display()
        );
    }
    let installed = store.install_raida_key(&key)?;
    raida_installed(this, &store, &key, installed)
}

fn raida_installed(
    this: &Session,
    store: &KeyStore,
    key: &RaidaKey,
    installed: Installed,
) -> anyhow::Result<ExitCode> {
    let info = RaidaKeyInfo::from(key);
    let what = format!("RAIDA key of {} {}, {},", info.role, info.principal, info.strength);
    this.installed(store, output::raida(store, info), &what, installed, &[])
}

fn rotate(this: &Session, args: &RotateArgs) -> anyhow::Result<ExitCode> {
    if let KeyRef::Raida(principal, role) = args.key {
        return rotate::rotate(this, args, (principal, role));
    }
    if args.base.is_some() || args.relays.is_some() {
        bail!("--base and --relays are for RAIDA keys: name one as raida:PRINCIPAL.ROLE");
    }
    let store = this.store()?;
    let ring = store.keyring()?;
    let found = matching(&store, &ring, &args.key)?;
    let parties: Vec<Principal> = found.iter().map(|key| key.info().with).collect();
    let with = parties[0];
    if parties.iter().any(|other| *other != with) {
        bail!("several parties are called so; name one by its principal");
    }
    let active = |key: &&Arc<StoredKey>| key.info().state == KeyState::Active && Some(key.id()) != args.to;
    let newest = found.iter().filter(active).max_by_key(|key| key.info().created);
    let new = match args.to {
        Some(id) => {
            let key = ring.get(id).with_context(|| format!("no Encryption key {id:?}; import it first"))?;
            if key.info().with != with {
                bail!("{id:?} is a key with {}, not with {with}", key.info().with);
            }
            StoredKey::clone(key)
        }
        None => {
            let old = newest.with_context(|| {
                format!("no active key with {with} to take over from; generate or import one")
            })?;
            let (id, secret) = draw()?;
            let mut info = KeyInfo::new(id, with, Origin::Generated);
            info.own = old.info().own;
            info.name.clone_from(&old.info().name);
            if let Some(When(at)) = args.expires {
                info = info.with_expiry(at);
            }
            stored(info, secret)?
        }
    };
    let retired = store.rotate(&new, args.old_until.map(|When(at)| at))?;
    let document = output::encryption(&store, new.info(), this.now);
    let what = format!("Encryption key {:?} with {with}", new.id());
    let installed = if args.to.is_some() { Installed::Same } else { Installed::New };
    this.installed(&store, document, &what, installed, &retired)
}

fn revoke(this: &Session, key: &KeyRef) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    let key = one(&store, key)?;
    let (id, with) = (key.id(), key.info().with);
    let changed = store.revoke(id)?;
    let others = store.keyring()?.iter().any(|key| key.info().with == with && key.info().opens(this.now));
    let document = || json!({ "revoked": format!("{id:?}"), "changed": changed, "with": with.to_string() });
    let text = || {
        let was = if changed { "is revoked, its secret erased" } else { "was revoked before" };
        let then = if others {
            String::new()
        } else {
            format!(
                "No key with {with} is left: connections with it are refused until another one is imported, or this one \
                 is removed\n"
            )
        };
        format!("{id:?} {was}\n{then}")
    };
    tell(this.json, document, text)?;
    Ok(ExitCode::SUCCESS)
}

fn remove(this: &Session, key: &KeyRef) -> anyhow::Result<ExitCode> {
    let store = this.store()?;
    let file = match key {
        KeyRef::Raida(principal, role) => {
            store.remove_raida_key(*principal, *role)?;
            store.raida_file(*principal, *role)
        }
        // Also one whose file is damaged, which no list of good keys has.
        KeyRef::Id(id) => {
            store.remove(*id)?;
            store.encryption_file(*id)
        }
        key => {
            let id = one(&store, key)?.id();
            store.remove(id)?;
            store.encryption_file(id)
        }
    };
    let file = file.display().to_string();
    tell(
        this.json,
        || json!({ "removed": file }),
        || {
            format!(
                "{file} is overwritten and removed; copies that the file system, its snapshots or backups keep are not\n"
            )
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The RAIDA key that a word on the command line means.
fn raida_key(key: &KeyRef) -> anyhow::Result<(Principal, Role)> {
    match key {
        KeyRef::Raida(principal, role) => Ok((*principal, *role)),
        _ => bail!("name a RAIDA key as raida:PRINCIPAL.ROLE, for example raida:1.0.1042.client"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_found_as_the_configuration_is() {
        let found = |named: Option<&str>, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            folder(named.map(Path::new), variable).ok().map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/a");
        assert_eq!(found(Some("here"), &[(VARIABLE, "/k"), home]).as_deref(), Some("here"));
        assert_eq!(found(None, &[(VARIABLE, "/k"), home]).as_deref(), Some("/k"));
        assert_eq!(found(None, &[(VARIABLE, ""), home]).as_deref(), Some("/home/a/.config/qsocket/keys"));
        assert_eq!(found(None, &[("XDG_CONFIG_HOME", "/x"), home]).as_deref(), Some("/x/qsocket/keys"));
        assert_eq!(
            found(None, &[("XDG_CONFIG_HOME", "relative"), home]).as_deref(),
            Some("/home/a/.config/qsocket/keys")
        );
        assert_eq!(found(None, &[]), None);
    }
}
