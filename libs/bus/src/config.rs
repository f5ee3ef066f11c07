//! Where NATS is and who we are to it: the shared section `nats`.

use orchion_service::Secret;
use serde::{Deserialize, Serialize};

/// Section `nats` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Servers, separated by commas.
    pub url: String,
    /// User, when the server asks for one.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<Secret>,
    /// User of the system account, whose events tell of dead connections at
    /// once; without it only missing heartbeats do.
    pub system_user: Option<String>,
    /// Password of that user.
    pub system_password: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "nats://localhost:4222".to_owned(),
            user: None,
            password: None,
            system_user: None,
            system_password: None,
        }
    }
}

impl Config {
    /// Every problem, as sentences.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(error) = self.servers() {
            problems.push(format!(
                "nats.url: {error}; write nats://HOST:PORT, several separated by commas"
            ));
        }
        if self.user.is_none() && self.password.is_some() {
            problems.push("nats.password is set but nats.user is not: set both".to_owned());
        }
        problems
    }

    /// The URL without user and password, for messages.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let one = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (Some(_) | None, Some(_) | None) => url.to_owned(),
        };
        self.url.split(',').map(one).collect::<Vec<_>>().join(",")
    }

    /// Where answers to the connection `client` arrive. The server's permissions
    /// name it: nobody hears the answers that another user gets.
    pub(crate) fn inbox(&self, client: &str) -> String {
        let user = self.user.as_deref().unwrap_or("service");
        format!("_INBOX_{user}.{client}")
    }

    /// User and password: the settings, else those in the URL, which the
    /// client itself does not look at.
    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        if let Some(user) = &self.user {
            return Some((user.clone(), exposed(self.password.as_ref())));
        }
        let servers = self.servers().ok()?;
        let server = servers.iter().find(|server| server.username().is_some())?;
        Some((
            server.username()?.to_owned(),
            server.password().unwrap_or_default().to_owned(),
        ))
    }

    pub(crate) fn exposed_system_password(&self) -> String {
        exposed(self.system_password.as_ref())
    }

    pub(crate) fn servers(&self) -> Result<Vec<async_nats::ServerAddr>, std::io::Error> {
        self.url.split(',').map(|url| url.trim().parse()).collect()
    }
}

/// A user without a password is one that the server asks none of.
fn exposed(password: Option<&Secret>) -> String {
    password
        .map(|password| password.expose().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        let config = Config {
            url: "nats://me:secret@a:4222,nats://b:4222".to_owned(),
            ..Config::default()
        };
        assert_eq!(config.shown_url(), "nats://a:4222,nats://b:4222");
    }

    #[test]
    fn credentials_in_the_url_are_used_when_none_are_set() {
        let in_url = Config {
            url: "nats://a:4222,nats://me:secret@b:4222".to_owned(),
            ..Config::default()
        };
        assert_eq!(
            in_url.credentials(),
            Some(("me".to_owned(), "secret".to_owned()))
        );
        let set = Config {
            user: Some("you".to_owned()),
            ..in_url
        };
        assert_eq!(set.credentials(), Some(("you".to_owned(), String::new())));
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let config = Config {
            url: "nats://[".to_owned(),
            password: Some(Secret::new("p")),
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 2);
    }
}
