//! What a GGUF file says about itself, by key, and the sizes of its model.

use std::collections::HashMap;
use std::path::Path;

use candle_core::quantized::gguf_file::Value;

use super::Error;

/// The metadata of an opened file.
#[derive(Clone, Copy)]
pub struct Metadata<'a> {
    values: &'a HashMap<String, Value>,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(values: &'a HashMap<String, Value>) -> Self {
        Self { values }
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.values.get(key)?.to_string().ok().map(String::as_str)
    }

    /// A list of strings.
    pub fn texts(&self, key: &str) -> Option<Vec<&'a str>> {
        let list = self.values.get(key)?.to_vec().ok()?;
        list.iter()
            .map(|value| value.to_string().ok().map(String::as_str))
            .collect()
    }

    /// A whole number that is not negative, in any width.
    pub fn number(&self, key: &str) -> Option<u64> {
        whole(self.values.get(key)?)
    }

    /// A list of whole numbers.
    pub fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        self.values
            .get(key)?
            .to_vec()
            .ok()?
            .iter()
            .map(whole)
            .collect()
    }

    /// Yes or no.
    pub fn truth(&self, key: &str) -> Option<bool> {
        self.values.get(key)?.to_bool().ok()
    }

    fn float(&self, key: &str) -> Option<f32> {
        self.values.get(key)?.to_f32().ok()
    }
}

fn whole(value: &Value) -> Option<u64> {
    let signed = match value {
        Value::I8(value) => i64::from(*value),
        Value::I16(value) => i64::from(*value),
        Value::I32(value) => i64::from(*value),
        Value::I64(value) => *value,
        Value::U8(_) | Value::U16(_) | Value::U32(_) | Value::U64(_) => return value.to_u64().ok(),
        Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Array(_) => {
            return None;
        }
    };
    u64::try_from(signed).ok()
}

/// How the pairs of a rotary embedding lie in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rotary {
    /// Neighbours: 2i with 2i+1.
    Neighbours,
    /// Halves: i with i + half a head.
    Halves,
}

/// All sizes of a model.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub(super) layers: usize,
    pub(super) dim: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head: usize,
    pub(super) ff: usize,
    pub(super) vocabulary: usize,
    pub(super) context: usize,
    pub(super) epsilon: f32,
    pub(super) rotary: Rotary,
    pub(super) rotary_base: f32,
    /// How many numbers of a head are rotated.
    pub(super) rotary_dim: usize,
}

impl Sizes {
    pub(super) fn read(metadata: &Metadata, path: &Path) -> Result<Self, Error> {
        let arch = metadata.text("general.architecture").unwrap_or("unknown");
        let rotary = match arch {
            "llama" => Rotary::Neighbours,
            "qwen2" | "qwen3" => Rotary::Halves,
            other => return Err(Error::Architecture(other.to_owned())),
        };
        let key = |name: &str| format!("{arch}.{name}");
        if metadata.number(&key("expert_count")).unwrap_or(0) > 0 {
            return Err(Error::Architecture(format!("{arch} with experts")));
        }
        let broken = |reason: String| Error::Broken {
            path: path.into(),
            reason,
        };
        let optional = |name: &str| metadata.number(&key(name)).map(|n| n as usize);
        let size = |name: &str| {
            optional(name)
                .filter(|&n| n > 0)
                .ok_or_else(|| broken(format!("no {}", key(name))))
        };
        let (dim, heads) = (size("embedding_length")?, size("attention.head_count")?);
        let tokens = metadata
            .texts("tokenizer.ggml.tokens")
            .map(|tokens| tokens.len());
        let head = optional("attention.key_length").unwrap_or(dim / heads);
        let sizes = Self {
            layers: size("block_count")?,
            dim,
            heads,
            kv_heads: optional("attention.head_count_kv").unwrap_or(heads),
            head,
            ff: size("feed_forward_length")?,
            vocabulary: tokens.ok_or_else(|| broken("no token list".into()))?,
            context: size("context_length")?,
            epsilon: metadata
                .float(&key("attention.layer_norm_rms_epsilon"))
                .ok_or_else(|| broken("no norm epsilon".into()))?,
            rotary,
            rotary_base: metadata.float(&key("rope.freq_base")).unwrap_or(10_000.0),
            rotary_dim: optional("rope.dimension_count").unwrap_or(head),
        };
        let fits = sizes.kv_heads > 0
            && heads.is_multiple_of(sizes.kv_heads)
            && head.is_multiple_of(2)
            && sizes.rotary_dim <= head
            && sizes.rotary_dim.is_multiple_of(2);
        if fits {
            Ok(sizes)
        } else {
            Err(broken("head sizes do not fit together".into()))
        }
    }

    /// Query heads that share one key and value head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Numbers per token in a layer's key or value cache.
    pub(super) fn kv(&self) -> usize {
        self.kv_heads * self.head
    }
}
