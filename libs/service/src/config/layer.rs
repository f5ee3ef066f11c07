//! One layer of configuration as figment sees it: where it came from and a tree.

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// A tree of values with the name of its origin, for messages.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) origin: String,
    pub(super) tree: Dict,
}

impl Layer {
    /// A layer that sets one dotted key.
    pub(super) fn of_key(origin: String, key: &str, value: Value) -> Self {
        let path: Vec<&str> = key.split('.').collect();
        Self {
            origin,
            tree: nested(&path, value),
        }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Map::from([(Profile::Default, self.tree.clone())]))
    }
}

/// The tree in which only `path` has a value.
pub(super) fn nested<S: AsRef<str>>(path: &[S], value: Value) -> Dict {
    match path {
        [] => Dict::new(),
        [last] => Dict::from([(last.as_ref().to_owned(), value)]),
        [first, rest @ ..] => {
            Dict::from([(first.as_ref().to_owned(), Value::from(nested(rest, value)))])
        }
    }
}

/// The value that a text from the environment or a flag stands for: lists and
/// tables are read as such, anything else stays text and is converted to what
/// the setting wants, so that a secret of digits is not taken for a number.
pub(super) fn value_of(text: &str) -> Value {
    if text.starts_with('[') || text.starts_with('{') {
        let document = format!("value = {text}");
        let parsed = toml::from_str::<Dict>(&document).ok();
        if let Some(value) = parsed.and_then(|mut tree| tree.remove("value")) {
            return value;
        }
    }
    Value::from(text)
}
