//! `orchion setup`: draws the secrets of a deployment once and lays them where
//! each part reads its own. `compose.yaml` runs it before everything else.
//!
//! Services get a folder with the configuration of NATS, the token and their
//! `orchion.toml`; nodes get another one that opens only what an agent may do.

use std::fs;
use std::io::Write;
use std::path::Path;

use orchion_nats_server::{Access, Passwords, install};
use uuid::Uuid;

use super::Context;
use crate::args::Setup;
use crate::exit::{Failure, Kind, Result};

const FILE: &str = "orchion.toml";

/// Writes both folders. Run again it keeps every secret and changes nothing.
pub(super) fn run(context: &Context, options: &Setup) -> Result<()> {
    lay_down(options)?;
    context.terminal.line(&format!(
        "the services read {}, the nodes read {}",
        options.services.display(),
        options.agents.display()
    ))
}

fn lay_down(options: &Setup) -> Result<()> {
    let nats = options.services.join("nats");
    let passwords = Passwords::load_or_generate(&nats).map_err(refused)?;
    install(&nats, &Access::Network(passwords.clone())).map_err(refused)?;
    let token = token(&options.services)?;
    let url = &options.nats_url;
    keep(
        &options.services.join(FILE),
        &format!(
            "# Written by `orchion setup`. Keep it secret.\n\n\
             [nats]\nurl = {url:?}\nuser = \"service\"\npassword = {:?}\n\
             system_user = \"liveness\"\nsystem_password = {:?}\n\n\
             [gateway]\ntokens = [{token:?}]\n",
            passwords.service, passwords.liveness
        ),
    )?;
    keep(
        &options.agents.join(FILE),
        &format!(
            "# Written by `orchion setup`. Keep it secret.\n\n\
             [nats]\nurl = {url:?}\nuser = \"agent\"\npassword = {:?}\n",
            passwords.agent
        ),
    )
}

/// The token that clients need: drawn once, then kept.
fn token(folder: &Path) -> Result<String> {
    let path = folder.join("token");
    match fs::read_to_string(&path) {
        Ok(token) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Ok(_) | Err(_) => {
            let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            keep(&path, &token)?;
            Ok(token)
        }
    }
}

/// Writes a file that only its owner reads; it appears whole or not at all.
fn keep(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Internal, format!("write {}: {error}", path.display()))
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn refused(error: orchion_nats_server::Error) -> Failure {
    Failure::new(Kind::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn run_again_it_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());

        lay_down(&options).unwrap();
        let before = contents(folder.path());
        lay_down(&options).unwrap();

        assert_eq!(contents(folder.path()), before);
        assert_eq!(
            before.len(),
            7,
            "{:?}",
            before.iter().map(|(path, _)| path).collect::<Vec<_>>()
        );
    }

    #[test]
    fn nodes_learn_no_secret_but_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        lay_down(&options).unwrap();

        let passwords = Passwords::load(&options.services.join("nats"))
            .unwrap()
            .unwrap();
        let agents = contents(&options.agents);

        assert_eq!(agents.len(), 1);
        assert!(agents[0].1.contains(&passwords.agent));
        let token = fs::read_to_string(options.services.join("token")).unwrap();
        for secret in [
            &passwords.service,
            &passwords.liveness,
            &passwords.reader,
            &token,
        ] {
            assert!(!agents[0].1.contains(secret));
        }
    }

    fn options(folder: &Path) -> Setup {
        Setup {
            nats_url: "nats://nats:4222".to_owned(),
            services: folder.join("services"),
            agents: folder.join("agents"),
        }
    }

    fn contents(folder: &Path) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(contents(&path));
            } else {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
        found.sort();
        found
    }
}
