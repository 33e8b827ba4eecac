//! `check`: whether a relay, or all 25 of a folder, would start.

use super::cli::CheckArgs;
use super::config::Config;
use super::run::{cluster_files, one_cluster};
use super::say;
use super::store::{Access, Store};
use anyhow::Context;
use qsocket_proto::ids::Role;
use raida_relay::Roster;
use std::process::ExitCode;

/// Checks a file or the folder of a cluster, and prints what it found.
///
/// # Errors
/// When the folder cannot be read; problems of files are printed, and the exit code says that there are some.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let problems = runtime.block_on(async {
        let is_dir = args.path.is_dir();
        let files = if is_dir { cluster_files(&args.path)? } else { vec![args.path.clone()] };
        let (mut problems, mut configs) = (0, Vec::new());
        for file in files {
            let checked = match Config::read(&file) {
                Ok(config) => {
                    configs.push(config.clone());
                    check_one(&config, args.bind).await
                }
                Err(e) => Err(e.into()),
            };
            match checked {
                Ok(found) => say(&format!("{found}\n"))?,
                Err(e) => {
                    problems += 1;
                    say(&format!("{e:#}\n"))?;
                }
            }
        }
        if is_dir && let Err(e) = one_cluster(&args.path, &configs) {
            problems += 1;
            say(&format!("{e:#}\n"))?;
        }
        anyhow::Ok(problems)
    })?;
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What stands in a configuration and its store, in one line.
async fn check_one(config: &Config, bind: bool) -> anyhow::Result<String> {
    let file = config.file.display();
    let store = Store::open(&config.store, config.network, config.relay, Access::Read)
        .await
        .with_context(|| file.to_string())?;
    let loaded = store.load().await.with_context(|| file.to_string())?;
    store.close().await;
    let Roster { table, servers, .. } = &loaded.roster;
    let clients = table.keys().filter(|(_, role)| *role == Role::Client).count();
    loaded.roster.check(config.network, config.dial_any_address).with_context(|| file.to_string())?;
    if bind {
        for address in [Some(config.listen), config.admin].into_iter().flatten() {
            std::net::TcpListener::bind(address)
                .with_context(|| format!("{file}: cannot listen at {address}; is it another program's?"))?;
        }
    }
    Ok(format!(
        "{file}: relay {} of network {} at {}: {clients} clients, {} servers with {} addresses, {} banned",
        config.relay,
        config.network,
        config.listen,
        table.len() - clients,
        servers.len(),
        loaded.banned,
    ))
}
