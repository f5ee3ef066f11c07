//! How text is cut into words before byte-level BPE joins letters inside each word.
//!
//! A GGUF file only names its way of cutting. A wrong one does not fail, it makes a
//! model quietly worse; so names we do not know are refused.

use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Qwen: every digit is a word.
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3: up to three digits are a word.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// GPT-2: a word takes the space before it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How one family of models prepares text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The pattern of one word.
    pub(crate) pattern: &'static str,
    /// Composed characters first (Unicode NFC).
    pub(crate) compose: bool,
    /// A word that is a token as it stands is not built from merges.
    pub(crate) whole_words: bool,
}

/// The way named `pre` in a GGUF file, or `None` for one we do not know.
pub(crate) fn way(pre: &str) -> Option<Way> {
    let (pattern, compose, whole_words) = match pre {
        "qwen2" | "deepseek-r1-qwen" => (QWEN2, true, false),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => (LLAMA3, false, true),
        "smaug-bpe" | "lfm2" => (LLAMA3, false, false),
        "gpt-2" | "gpt2" | "default" => (GPT2, false, false),
        _ => return None,
    };
    Some(Way {
        pattern,
        compose,
        whole_words,
    })
}

/// A cutter for one of the patterns above.
pub(crate) fn splitter(pattern: &str) -> tokenizers::Result<Split> {
    Split::new(
        SplitPattern::Regex(pattern.to_owned()),
        SplitDelimiterBehavior::Isolated,
        false,
    )
}

/// `text` cut into words; text is never lost, a pattern that fails cuts nothing.
pub(crate) fn pieces(pattern: &str, text: &str) -> Vec<String> {
    let mut cut = PreTokenizedString::from(text);
    // The patterns are constants that the tests below compile.
    if let Ok(split) = splitter(pattern) {
        let _ = split.pre_tokenize(&mut cut);
    }
    let words = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
    words
        .into_iter()
        .map(|(word, _, _)| word.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "Hello'Ve world 1234\n\n  foo";

    #[test]
    fn each_family_cuts_its_own_way() {
        let cut = |pre| pieces(way(pre).unwrap().pattern, SAMPLE);
        assert_eq!(
            cut("qwen2"),
            [
                "Hello", "'Ve", " world", " ", "1", "2", "3", "4", "\n\n", " ", " foo"
            ]
        );
        assert_eq!(
            cut("llama-bpe"),
            [
                "Hello", "'Ve", " world", " ", "123", "4", "\n\n", " ", " foo"
            ]
        );
        assert_eq!(
            cut("gpt-2"),
            ["Hello", "'", "Ve", " world", " 1234", "\n\n ", " foo"]
        );
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert_eq!(way("tekken"), None);
    }
}
