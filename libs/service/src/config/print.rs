//! The effective configuration as TOML, with nothing in it that must not be seen.

use serde::Serialize;

use super::secret::MASK;

/// Writes a configuration as TOML. Secrets are masked by their type, passwords
/// within URLs (`nats://user:password@host`) by their place.
///
/// # Errors
/// A value that TOML cannot express.
pub fn to_toml<C: Serialize>(config: &C) -> anyhow::Result<String> {
    let mut tree = toml::Value::try_from(config)?;
    mask_urls(&mut tree);
    Ok(toml::to_string_pretty(&tree)?)
}

fn mask_urls(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            *text = text.split(',').map(mask_url).collect::<Vec<_>>().join(",")
        }
        toml::Value::Array(values) => values.iter_mut().for_each(mask_urls),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask_urls(value)),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// Masks the password of a URL, or its user where that is a token.
pub(crate) fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else {
        return url.to_owned();
    };
    let user = match rest[..at].split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}"),
        None => MASK.to_owned(),
    };
    format!("{scheme}://{user}{}", &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::mask_url;

    #[test]
    fn masks_what_a_url_hides() {
        assert_eq!(
            mask_url("nats://ann:secret@host:4222"),
            "nats://ann:***@host:4222"
        );
        assert_eq!(mask_url("nats://token@host"), "nats://***@host");
        assert_eq!(
            mask_url("nats://ann:p@ss@host/x@y"),
            "nats://ann:***@host/x@y"
        );
        assert_eq!(mask_url("http://host/a@b"), "http://host/a@b");
        assert_eq!(mask_url("plain"), "plain");
    }
}
