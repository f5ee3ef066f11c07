//! Text to token ids and back, from what a GGUF file says.
//!
//! Only byte-level BPE is supported: the vocabulary of Qwen, Llama 3 and GPT-2 like
//! models. Each ordinary token is a string of bytes, and text is their concatenation.

pub(crate) mod alphabet;
pub(crate) mod split;

use std::collections::BTreeSet;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use crate::model::{Error, Metadata};

/// Names under which end-of-turn tokens are known, whatever the file calls its end.
const TURN_ENDS: [&str; 6] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
];

/// Token type codes of the GGUF format.
mod kind {
    pub(super) const CONTROL: u64 = 3;
    pub(super) const USER_DEFINED: u64 = 4;
    pub(super) const UNUSED: u64 = 5;
    pub(super) const BYTE: u64 = 6;
}

/// The vocabulary of a loaded model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bytes: Vec<Box<[u8]>>,
    ends: BTreeSet<u32>,
    start: Option<Start>,
    end_text: String,
}

/// The token that opens a document.
struct Start {
    id: u32,
    text: String,
    /// The file asks for it in front of every prompt.
    added: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that `metadata` describes.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the vocabulary is missing, broken or of a kind that
    /// this engine cannot read.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let kind = metadata.text("tokenizer.ggml.model").unwrap_or("none");
        if kind != "gpt2" {
            return Err(Error::Tokenizer(format!(
                "vocabulary kind `{kind}` is not supported"
            )));
        }
        let pre = metadata.text("tokenizer.ggml.pre").unwrap_or("default");
        let way = split::way(pre)
            .ok_or_else(|| Error::Tokenizer(format!("word splitting `{pre}` is not supported")))?;
        let tokens = metadata
            .texts("tokenizer.ggml.tokens")
            .ok_or_else(|| Error::Tokenizer("the file has no token list".into()))?;
        let merges = merges(metadata)?;
        let kinds = metadata
            .numbers("tokenizer.ggml.token_type")
            .unwrap_or_default();

        let broken = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
        let vocabulary = tokens
            .iter()
            .zip(0..)
            .map(|(token, id)| ((*token).to_owned(), id));
        let bpe = BPE::builder()
            .vocab_and_merges(
                vocabulary.collect::<tokenizers::models::bpe::Vocab>(),
                merges,
            )
            .ignore_merges(way.whole_words)
            .build()
            .map_err(broken)?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        if way.compose {
            inner.with_normalizer(Some(NFC)).map_err(broken)?;
        }
        let words = split::splitter(way.pattern).map_err(broken)?;
        let bytes = ByteLevel::new(false, false, false);
        inner.with_pre_tokenizer(Some(PreTokenizerWrapper::from(Sequence::new(vec![
            words.into(),
            bytes.into(),
        ]))));
        let is_added = |id: usize| {
            matches!(
                kinds.get(id),
                Some(&(kind::CONTROL | kind::USER_DEFINED | kind::UNUSED))
            )
        };
        let added = tokens.iter().enumerate().filter(|&(id, _)| is_added(id));
        inner
            .add_special_tokens(added.map(|(_, token)| AddedToken::from(*token, true)))
            .map_err(broken)?;

        let bytes = tokens.iter().enumerate();
        let bytes = bytes
            .map(|(id, token)| bytes_of(token, kinds.get(id).copied()))
            .collect();
        let id_of = |key: &str| metadata.number(key).and_then(|id| u32::try_from(id).ok());
        let text_of = |id: u32| {
            tokens
                .get(id as usize)
                .map_or_else(String::new, |t| (*t).to_owned())
        };
        let end = id_of("tokenizer.ggml.eos_token_id");
        let mut ends: BTreeSet<u32> = TURN_ENDS
            .iter()
            .filter_map(|end| inner.token_to_id(end))
            .collect();
        ends.extend(end);
        ends.extend(id_of("tokenizer.ggml.eot_token_id"));
        Ok(Self {
            bytes,
            ends,
            start: id_of("tokenizer.ggml.bos_token_id").map(|id| Start {
                id,
                text: text_of(id),
                added: metadata
                    .truth("tokenizer.ggml.add_bos_token")
                    .unwrap_or(false),
            }),
            end_text: end.map_or_else(String::new, text_of),
            inner,
        })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The ids of a whole prompt; control tokens written out in `text` count as such, and
    /// the start token is put in front if the file asks for it and the text has none.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the text cannot be expressed in the vocabulary.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode_inside(text)?;
        if let Some(start) = &self.start
            && start.added
            && ids.first() != Some(&start.id)
        {
            ids.insert(0, start.id);
        }
        Ok(ids)
    }

    /// The ids of a text that stands behind others: no start token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the text cannot be expressed in the vocabulary.
    pub fn encode_inside(&self, text: &str) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The bytes of text that a token stands for; none for control tokens.
    pub fn bytes(&self, id: u32) -> &[u8] {
        self.bytes.get(id as usize).map_or(&[], AsRef::as_ref)
    }

    /// Whether generation stops at this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The text of the start token, for chat templates.
    pub fn start_text(&self) -> &str {
        self.start.as_ref().map_or("", |start| &start.text)
    }

    /// The text of the end token, for chat templates.
    pub fn end_text(&self) -> &str {
        &self.end_text
    }
}

fn merges(metadata: &Metadata) -> Result<Vec<(String, String)>, Error> {
    let merges = metadata
        .texts("tokenizer.ggml.merges")
        .ok_or_else(|| Error::Tokenizer("the file has no merge list".into()))?;
    let pairs = merges.into_iter().map(|merge| {
        let pair = merge.split_once(' ');
        let (left, right) =
            pair.ok_or_else(|| Error::Tokenizer(format!("merge `{merge}` is not a pair")))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    pairs.collect()
}

fn bytes_of(token: &str, kind: Option<u64>) -> Box<[u8]> {
    match kind {
        Some(kind::CONTROL | kind::UNUSED) => Box::default(),
        Some(kind::USER_DEFINED) => token.as_bytes().into(),
        Some(kind::BYTE) => raw_byte(token).into_iter().collect(),
        // A token with a letter outside the alphabet cannot come from byte-level BPE.
        _ => token
            .chars()
            .map(alphabet::byte_of)
            .collect::<Option<Vec<u8>>>()
            .unwrap_or_else(|| token.as_bytes().to_vec())
            .into(),
    }
}

/// The byte of a token written `<0xAB>`.
fn raw_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
