//! Identifiers. Those that become subject tokens are made of letters, digits,
//! dashes and underscores, so that no id can widen or split a subject.

use crate::UnixMs;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Longest token accepted, in bytes.
pub const MAX_TOKEN_BYTES: usize = 64;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing was given.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of id.
        what: &'static str,
    },
    /// More than the limit.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// Which kind of id.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// A character that may not stand in a subject token.
    #[error("{what} '{text}' contains {found:?}: use letters, digits, dashes and underscores only")]
    Character {
        /// Which kind of id.
        what: &'static str,
        /// What was given.
        text: String,
        /// The first offending character.
        found: char,
    },
    /// Not a UUID.
    #[error("{what} '{text}' is not a UUID")]
    NotUuid {
        /// Which kind of id.
        what: &'static str,
        /// What was given.
        text: String,
    },
}

fn check_token(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty { what });
    }
    if text.len() > MAX_TOKEN_BYTES {
        return Err(Invalid::TooLong {
            what,
            limit: MAX_TOKEN_BYTES,
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(Invalid::Character {
            what,
            text: text.to_owned(),
            found,
        }),
        None => Ok(()),
    }
}

/// A text that is read without a copy, where there is no escape in it.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

macro_rules! token_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
        #[schema(value_type = String)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks that `text` is a safe subject token.
            ///
            /// # Errors
            /// [`Invalid`] names the first thing that is wrong.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                check_token($what, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// A fresh random id.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4().simple().to_string().into())
            }

            /// The id as it stands in subjects and JSON.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Text::deserialize(deserializer)?;
                Self::new(text.0).map_err(D::Error::custom)
            }
        }
    };
}

token_id! {
    /// A host. Survives restarts of its agent.
    NodeId, "node id"
}
token_id! {
    /// One run of one process; fresh at every start.
    InstanceId, "instance id"
}
token_id! {
    /// Who reads a job's transcript first: a gateway process, or `bus`.
    ReaderId, "reader token"
}
token_id! {
    /// One model on one device set in one engine of a node, unique within the node.
    ReplicaId, "replica id"
}

/// A job; UUIDv7 when made here, any UUID when the caller names it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = Uuid)]
pub struct JobId(Uuid);

impl ReaderId {
    /// Where the transcripts of tasks and of chats with an `Idempotency-Key` are,
    /// whichever gateway takes them in: submitted again at another one, they are
    /// the same job.
    #[must_use]
    pub fn tasks() -> Self {
        Self("tasks".into())
    }

    /// The gateway of this name; `None` when no single one is meant.
    #[must_use]
    pub fn gateway(&self) -> Option<&Self> {
        (&*self.0 != "tasks").then_some(self)
    }
}

impl JobId {
    /// A fresh id that sorts by time of creation.
    #[must_use]
    pub fn now() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, in milliseconds since 1970 by the clock of its maker; `None`
    /// for an id that does not tell.
    #[must_use]
    pub fn made_ms(&self) -> Option<UnixMs> {
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        Some(seconds * 1000 + u64::from(nanos) / 1_000_000)
    }

    /// The id as a UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for JobId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({})", self.0)
    }
}

impl FromStr for JobId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Uuid::parse_str(text)
            .map(Self)
            .map_err(|_| Invalid::NotUuid {
                what: "job id",
                text: text.chars().take(80).collect(),
            })
    }
}

/// What a model is called by its engine; free text, never a subject token.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct ModelName(std::sync::Arc<str>);

impl<'de> Deserialize<'de> for ModelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self::from(text.0))
    }
}

impl ModelName {
    /// The name as the engine spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for ModelName {
    fn from(name: T) -> Self {
        Self(name.as_ref().into())
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_widen_or_split_a_subject() {
        for bad in ["", "a.b", "a b", "*", ">", "a\n", "é", &"x".repeat(65)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(NodeId::new("pi-4_kitchen").is_ok());
    }

    #[test]
    fn a_bad_id_is_refused_on_the_wire_too() {
        assert!(serde_json::from_str::<NodeId>("\"a.b\"").is_err());
        assert!(serde_json::from_str::<JobId>("\"nope\"").is_err());
    }

    #[test]
    fn fresh_job_ids_sort_by_time() {
        let ids: Vec<JobId> = (0..100).map(|_| JobId::now()).collect();
        assert!(ids.is_sorted());
    }
}
