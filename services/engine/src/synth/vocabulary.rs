//! A byte-level BPE vocabulary learnt from the built-in text.

use std::collections::{BTreeMap, BTreeSet};

use super::corpus::CORPUS;
use crate::tokenizer::{alphabet, split};

/// End of a document; also the padding token.
pub(super) const END_OF_TEXT: &str = "<|endoftext|>";
/// End of a turn: generation stops here.
pub(super) const TURN_END: &str = "<|im_end|>";
/// Ends a tool call.
pub(super) const TOOL_END: &str = "</tool_call>";
const TURN_START: &str = "<|im_start|>";
const TOOL_START: &str = "<tool_call>";
const CONTROL: [&str; 3] = [END_OF_TEXT, TURN_START, TURN_END];
// Single tokens which the model never says by itself: a request that wants a tool
// call raises the first one with a bias, and an engine's grammar does the rest.
const USER_DEFINED: [&str; 2] = [TOOL_START, TOOL_END];
const UNUSED: &str = "<|unused_";
const MERGES: usize = 250;

/// Token type codes of the GGUF format.
mod kind {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const USER_DEFINED: i32 = 4;
    pub(super) const UNUSED: i32 = 5;
}

/// Tokens in id order and the merges that make the longer ones.
pub(super) struct Vocabulary {
    tokens: Vec<String>,
    ids: BTreeMap<String, u32>,
    merges: Vec<(String, String)>,
}

impl Vocabulary {
    /// Learns the merges that shorten the built-in text most; ties go by spelling.
    pub(super) fn learn() -> Self {
        let mut words: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for piece in split::pieces(split::QWEN2, CORPUS) {
            *words.entry(letters(&piece)).or_default() += 1;
        }
        let mut merges = Vec::with_capacity(MERGES);
        while merges.len() < MERGES {
            let Some(best) = most_frequent_pair(&words) else {
                break;
            };
            words = words
                .into_iter()
                .map(|(word, n)| (merge(&word, &best), n))
                .collect();
            merges.push(best);
        }
        let mut tokens: Vec<String> = alphabet::letters().iter().map(char::to_string).collect();
        let mut known: BTreeSet<String> = tokens.iter().cloned().collect();
        for (left, right) in &merges {
            let token = format!("{left}{right}");
            if known.insert(token.clone()) {
                tokens.push(token);
            }
        }
        tokens.extend(
            CONTROL
                .iter()
                .chain(&USER_DEFINED)
                .map(|&token| token.to_owned()),
        );
        while !tokens.len().is_multiple_of(32) {
            tokens.push(format!("{UNUSED}{}|>", tokens.len()));
        }
        let ids = tokens
            .iter()
            .zip(0..)
            .map(|(token, id)| (token.clone(), id))
            .collect();
        Self {
            tokens,
            ids,
            merges,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The id of a token that is known to be in the vocabulary.
    pub(super) fn id(&self, token: &str) -> u32 {
        self.ids[token]
    }

    pub(super) fn kinds(&self) -> Vec<i32> {
        let kind = |token: &String| match token.as_str() {
            token if CONTROL.contains(&token) => kind::CONTROL,
            token if USER_DEFINED.contains(&token) => kind::USER_DEFINED,
            token if token.starts_with(UNUSED) => kind::UNUSED,
            _ => kind::NORMAL,
        };
        self.tokens.iter().map(kind).collect()
    }

    pub(super) fn merges(&self) -> Vec<String> {
        self.merges
            .iter()
            .map(|(left, right)| format!("{left} {right}"))
            .collect()
    }

    /// The built-in paragraphs as token ids.
    pub(super) fn paragraphs(&self) -> Vec<Vec<u32>> {
        CORPUS
            .trim()
            .split("\n\n")
            .map(|paragraph| self.encode(paragraph))
            .collect()
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let words = split::pieces(split::QWEN2, text).into_iter().map(|piece| {
            self.merges
                .iter()
                .fold(letters(&piece), |word, pair| merge(&word, pair))
        });
        words.flatten().map(|token| self.id(&token)).collect()
    }
}

fn letters(piece: &str) -> Vec<String> {
    let letters = alphabet::letters();
    piece
        .bytes()
        .map(|byte| letters[usize::from(byte)].to_string())
        .collect()
}

fn most_frequent_pair(words: &BTreeMap<Vec<String>, usize>) -> Option<(String, String)> {
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (word, n) in words {
        for pair in word.windows(2) {
            *pairs.entry((&pair[0], &pair[1])).or_default() += n;
        }
    }
    // The map is in order of spelling and the first of equals is kept.
    let best = pairs
        .into_iter()
        .reduce(|best, pair| if pair.1 > best.1 { pair } else { best });
    best.map(|((left, right), _)| (left.to_owned(), right.to_owned()))
}

fn merge(word: &[String], (left, right): &(String, String)) -> Vec<String> {
    let mut merged = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((token, after)) = rest.split_first() {
        if token == left && after.first() == Some(right) {
            merged.push(format!("{left}{right}"));
            rest = &after[1..];
        } else {
            merged.push(token.clone());
            rest = after;
        }
    }
    merged
}
