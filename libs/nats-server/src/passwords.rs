//! One password per role for a server that listens beyond loopback.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;

use uuid::Uuid;

use crate::Error;

const FILE: &str = "passwords.conf";

/// The passwords of the four users. `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Passwords {
    /// Registry, scheduler, gateway, log-sink and the command line.
    pub service: String,
    /// Node-agents.
    pub agent: String,
    /// Whoever only watches logs and events.
    pub reader: String,
    /// The registry's connection to the account SYS.
    pub liveness: String,
}

impl Passwords {
    /// Draws fresh passwords, 244 random bits each.
    #[must_use]
    pub fn generate() -> Self {
        Self {
            service: draw(),
            agent: draw(),
            reader: draw(),
            liveness: draw(),
        }
    }

    /// Reads the passwords kept in `folder`, or generates and keeps them.
    ///
    /// # Errors
    /// [`Error::File`], and [`Error::Passwords`] for a file that lacks one.
    pub fn load_or_generate(folder: &Path) -> Result<Self, Error> {
        if let Some(passwords) = Self::load(folder)? {
            return Ok(passwords);
        }
        let passwords = Self::generate();
        passwords.save(folder)?;
        Ok(passwords)
    }

    /// Reads the passwords kept in `folder`; `None` when there are none yet.
    ///
    /// # Errors
    /// [`Error::File`], and [`Error::Passwords`] for a file that lacks one.
    pub fn load(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let value = |key: &'static str| {
            text.lines()
                .find_map(|line| {
                    line.strip_prefix(key)?
                        .strip_prefix(": \"")?
                        .strip_suffix('"')
                })
                .map(str::to_owned)
                .ok_or_else(|| Error::Passwords {
                    path: path.clone(),
                    key,
                })
        };
        Ok(Some(Self {
            service: value("SERVICE_PASSWORD")?,
            agent: value("AGENT_PASSWORD")?,
            reader: value("READER_PASSWORD")?,
            liveness: value("LIVENESS_PASSWORD")?,
        }))
    }

    /// Keeps the passwords in `folder`, in a file only its owner may read.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        let path = folder.join(FILE);
        let text = format!(
            "# Generated once; the users of this NATS server. Keep it secret.\n\
             SERVICE_PASSWORD: \"{}\"\nAGENT_PASSWORD: \"{}\"\nREADER_PASSWORD: \"{}\"\nLIVENESS_PASSWORD: \"{}\"\n",
            self.service, self.agent, self.reader, self.liveness
        );
        // A temporary file has mode 0600 from the moment it exists.
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.persist(&path).map_err(|error| error.error)
        });
        written.map(drop).map_err(Error::file("write", &path))
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(***)")
    }
}

/// Two random UUIDs; the leading letter keeps the server from reading a number.
fn draw() -> String {
    format!("p{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_drawn_once() {
        let folder = tempfile::tempdir().unwrap();

        let first = Passwords::load_or_generate(folder.path()).unwrap();
        let second = Passwords::load_or_generate(folder.path()).unwrap();

        assert_eq!(first, second);
        assert_ne!(first, Passwords::generate());
    }

    #[test]
    fn debug_shows_no_password() {
        let passwords = Passwords::generate();
        let shown = format!("{passwords:?}");
        assert!(!shown.contains(&passwords.service) && !shown.contains(&passwords.agent));
    }

    #[test]
    fn a_cut_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "SERVICE_PASSWORD: \"x\"\n").unwrap();

        let error = Passwords::load(folder.path()).unwrap_err();

        assert!(matches!(
            error,
            Error::Passwords {
                key: "AGENT_PASSWORD",
                ..
            }
        ));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Passwords::generate().save(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
