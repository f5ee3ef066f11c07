//! Reads the layers and makes one configuration of them.

use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use figment::{Figment, Provider};

use super::layer::{Layer, nested, value_of};
use super::secret::MASK;
use super::{FILE_NAME, Problems, SECTIONS, Settings, Sources, data_dir_in};

const PREFIX: &str = "ORCHION_";

/// Loads the configuration of one service.
///
/// # Errors
/// [`Problems`] lists everything that is wrong, in the order of the layers:
/// files that cannot be read, unknown names, values of a wrong type, and what
/// [`Settings::validate`] finds when the rest is right.
pub fn load<C: Settings>(sources: &Sources) -> Result<C, Problems> {
    let mut problems = Vec::new();
    let mut layers = Vec::new();
    match file_layer(sources) {
        Ok(layer) => layers.extend(layer),
        Err(problem) => problems.push(problem),
    }
    layers.extend(environment_layers(sources));
    layers.extend(flag_layers(sources));
    for layer in &mut layers {
        keep_own_sections::<C>(layer, &mut problems);
    }

    let defaults = defaults::<C>().map_err(|problem| Problems(vec![problem]))?;
    match extract::<C>(&defaults, &layers) {
        Ok(config) => {
            problems.extend(config.telemetry().validate());
            problems.extend(config.validate());
            if problems.is_empty() {
                Ok(config)
            } else {
                Err(Problems(problems))
            }
        }
        Err(error) => {
            let known = problems.len();
            for layer in &layers {
                examine::<C>(&defaults, layer, &mut problems);
            }
            if problems.len() == known {
                problems.push(error.to_string());
            }
            Err(Problems(problems))
        }
    }
}

fn file_layer(sources: &Sources) -> Result<Option<Layer>, String> {
    let Some(path) = find_file(sources) else {
        return Ok(None);
    };
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!("{origin}: cannot read the configuration file: {error}; correct --config or ORCHION_CONFIG")
    })?;
    let tree = toml::from_str::<Dict>(&text).map_err(|error| {
        // Not the line itself: it may hold a secret.
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("{origin}, line {line}: not TOML: {}", error.message())
    })?;
    Ok(Some(Layer { origin, tree }))
}

/// A file that was named must exist; the usual places may be empty.
fn find_file(sources: &Sources) -> Option<PathBuf> {
    let named = sources
        .environment
        .get("ORCHION_CONFIG")
        .filter(|path| !path.is_empty());
    if let Some(path) = sources.file.clone().or_else(|| named.map(PathBuf::from)) {
        return Some(path);
    }
    let here = Path::new(FILE_NAME).to_path_buf();
    [here, data_dir_in(&sources.environment).join(FILE_NAME)]
        .into_iter()
        .find(|path| path.is_file())
}

/// Variables without a double underscore that no flag declares belong to
/// somebody else; an empty variable counts as unset.
fn environment_layers(sources: &Sources) -> Vec<Layer> {
    let given = sources
        .environment
        .iter()
        .filter(|(_, value)| !value.is_empty());
    given
        .filter_map(|(name, value)| {
            let short = sources.short_names.iter().find(|(short, _)| short == name);
            let key = match short {
                Some((_, key)) => (*key).to_owned(),
                None => key_of_variable(name)?,
            };
            Some(Layer::of_key(
                format!("environment variable {name}"),
                &key,
                value_of(value),
            ))
        })
        .collect()
}

/// `ORCHION_LOG_SINK__MAX_AGE` sets `log-sink.max_age`.
fn key_of_variable(name: &str) -> Option<String> {
    let (section, rest) = name.strip_prefix(PREFIX)?.split_once("__")?;
    let section = section.to_lowercase();
    let dashed = section.replace('_', "-");
    let section = if SECTIONS.contains(&dashed.as_str()) {
        dashed
    } else {
        section
    };
    Some(format!(
        "{section}.{}",
        rest.to_lowercase().replace("__", ".")
    ))
}

fn flag_layers(sources: &Sources) -> Vec<Layer> {
    let layer = |flag: &super::FlagValue| {
        Layer::of_key(
            format!("flag --{}", flag.name),
            &flag.key,
            value_of(&flag.value),
        )
    };
    sources.flags.iter().map(layer).collect()
}

/// Skips the sections of other services and refuses those of nobody.
fn keep_own_sections<C: Settings>(layer: &mut Layer, problems: &mut Vec<String>) {
    let origin = layer.origin.clone();
    layer.tree.retain(|section, value| {
        if !SECTIONS.contains(&section.as_str()) {
            problems.push(format!(
                "{section} ({origin}): unknown section; {}",
                suggestion(section, SECTIONS)
            ));
            return false;
        }
        if !C::SECTIONS.contains(&section.as_str()) {
            return false;
        }
        if value.as_dict().is_none() {
            problems.push(format!(
                "{section} ({origin}): must be a section, as [{section}]"
            ));
            return false;
        }
        true
    });
}

/// The defaults as a tree. Masked secrets are taken out: a secret has no default.
fn defaults<C: Settings>() -> Result<Dict, String> {
    let serialized = Serialized::defaults(C::default());
    let tree = serialized
        .data()
        .map_err(|error| format!("the defaults cannot be written: {error}"))?;
    let mut tree = tree.into_values().next().unwrap_or_default();
    remove_masked(&mut tree);
    Ok(tree)
}

fn remove_masked(tree: &mut Dict) {
    tree.retain(|_, value| value.as_str() != Some(MASK));
    for value in tree.values_mut() {
        if let Value::Dict(_, inner) = value {
            remove_masked(inner);
        }
    }
}

fn extract<C: Settings>(defaults: &Dict, layers: &[Layer]) -> Result<C, Box<figment::Error>> {
    let defaults = Layer {
        origin: "defaults".to_owned(),
        tree: defaults.clone(),
    };
    let merged = layers
        .iter()
        .fold(Figment::from(defaults), |figment, layer| {
            figment.merge(layer.clone())
        });
    merged.extract_lossy().map_err(Box::new)
}

/// serde stops at the first error, so every given value is tried alone on top
/// of the defaults; what fails then is a problem of that value.
fn examine<C: Settings>(defaults: &Dict, layer: &Layer, problems: &mut Vec<String>) {
    let mut path = Vec::new();
    for (key, value) in &layer.tree {
        path.push(key.clone());
        examine_value::<C>(
            defaults,
            defaults.get(key),
            layer,
            &mut path,
            value,
            problems,
        );
        path.pop();
    }
}

fn examine_value<C: Settings>(
    defaults: &Dict,
    default: Option<&Value>,
    layer: &Layer,
    path: &mut Vec<String>,
    value: &Value,
    problems: &mut Vec<String>,
) {
    let known = default
        .and_then(Value::as_dict)
        .filter(|tree| !tree.is_empty());
    if let (Some(known), Some(given)) = (known, value.as_dict()) {
        for (key, value) in given {
            path.push(key.clone());
            examine_value::<C>(defaults, known.get(key), layer, path, value, problems);
            path.pop();
        }
        return;
    }
    let alone = Layer {
        origin: layer.origin.clone(),
        tree: nested(path, value.clone()),
    };
    if let Err(error) = extract::<C>(defaults, &[alone]) {
        problems.extend(
            error
                .into_iter()
                .map(|error| describe(&error, path, &layer.origin)),
        );
    }
}

fn describe(error: &figment::Error, path: &[String], origin: &str) -> String {
    let key = if error.path.len() > path.len() {
        error.path.join(".")
    } else {
        path.join(".")
    };
    match &error.kind {
        Kind::UnknownField(name, known) => {
            let key = if key.ends_with(name.as_str()) {
                key
            } else {
                format!("{key}.{name}")
            };
            format!("{key} ({origin}): unknown key; {}", suggestion(name, known))
        }
        Kind::UnknownVariant(name, known) => {
            format!(
                "{key} ({origin}): `{name}` is not one of {}",
                known.join(", ")
            )
        }
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            let found = found
                .to_string()
                .replace("unsigned int ", "")
                .replace("signed int ", "");
            format!(
                "{key} ({origin}): expected {}, found {found}",
                plain(expected)
            )
        }
        kind @ (Kind::Message(_)
        | Kind::InvalidLength(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..)) => format!("{key} ({origin}): {kind}"),
    }
}

/// The names of Rust's number types in words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number up to 255",
        "u16" => "a whole number up to 65535",
        "u32" | "u64" | "usize" => "a whole number",
        "i8" | "i16" | "i32" | "i64" => "a whole number, also below 0",
        "f32" | "f64" => "a number",
        "a sequence" => "a list, as [\"one\", \"two\"]",
        other => other,
    }
}

/// Names the nearest known name, or all of them when none is near.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3));
    match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => format!("known are {}", known.join(", ")),
    }
}
