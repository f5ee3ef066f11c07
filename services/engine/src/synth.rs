//! Writes a tiny but real language model as a GGUF file, without downloading anything.
//!
//! The file has a true architecture (grouped-query attention, rotary positions,
//! gated feed-forward), a byte-level BPE vocabulary and a chat template, so any
//! engine loads it, streams from it and stops at its end-of-turn token. It knows
//! nothing: it babbles words of six built-in paragraphs.
//!
//! * Each token's embedding is a row of +1 and -1 drawn from the seed.
//! * The output matrix adds up, for each token, the embeddings of the tokens it may
//!   follow in the text: the last token alone already says roughly what comes next.
//! * Attention and feed-forward weights are small noise, so that the output also
//!   depends on everything before; a mixed-up cache or slot shows as a changed text.
//!
//! Only integer arithmetic, a fixed mixing function and exact scaling are used: the
//! same [`Spec`] gives the same bytes on every machine.

mod corpus;
mod gguf;
mod noise;
mod vocabulary;
mod weights;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use gguf::Entry;
use vocabulary::Vocabulary;

/// The chat template written into the file: ChatML, tools between tags around JSON.
const CHAT_TEMPLATE: &str = include_str!("synth/chat_template.jinja");

/// Architecture named in the file; decides tensor names and which extras each layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arch {
    /// Plain layers, interleaved rotary pairs.
    Llama,
    /// Biases on query, key and value; rotary pairs half a head apart.
    Qwen2,
    /// Normalised queries and keys; rotary pairs half a head apart.
    Qwen3,
}

impl Arch {
    /// The name used in GGUF metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Storage type of the matrices; vectors are always 32-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Blocks of 32 bytes with one 16-bit scale.
    #[value(name = "q8_0")]
    Q8_0,
}

/// Which family's way of cutting text into words the file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Words {
    /// As Qwen does.
    Qwen2,
    /// As Llama 3 does, which also wants its start token in front of every prompt.
    LlamaBpe,
}

impl Words {
    fn name(self) -> &'static str {
        match self {
            Self::Qwen2 => "qwen2",
            Self::LlamaBpe => "llama-bpe",
        }
    }
}

/// Everything that decides the bytes of a written model.
#[derive(Clone, Debug, clap::Args)]
pub struct Spec {
    /// Architecture named in the file
    #[arg(long, value_enum, default_value = "llama")]
    pub arch: Arch,
    /// Way of cutting text into words named in the file
    #[arg(long, value_enum, default_value = "qwen2")]
    pub words: Words,
    /// Storage type of the matrices
    #[arg(long, value_enum, default_value = "f16")]
    pub dtype: Dtype,
    /// Number of layers
    #[arg(long, default_value_t = 2)]
    pub layers: usize,
    /// Width of the model: a multiple of 32 and of --heads
    #[arg(long, default_value_t = 256)]
    pub dim: usize,
    /// Width of the feed-forward part: a multiple of 32
    #[arg(long, default_value_t = 512)]
    pub ff: usize,
    /// Attention heads: a multiple of --kv-heads
    #[arg(long, default_value_t = 4)]
    pub heads: usize,
    /// Key and value heads
    #[arg(long, default_value_t = 2)]
    pub kv_heads: usize,
    /// Context length named in the file
    #[arg(long, default_value_t = 8192)]
    pub context: u32,
    /// Another seed is another model
    #[arg(long, default_value_t = 1)]
    pub seed: u32,
    /// Name written into the file
    #[arg(long, default_value = "orchion-tiny")]
    pub name: String,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            arch: Arch::Llama,
            words: Words::Qwen2,
            dtype: Dtype::F16,
            layers: 2,
            dim: 256,
            ff: 512,
            heads: 4,
            kv_heads: 2,
            context: 8192,
            seed: 1,
            name: "orchion-tiny".into(),
        }
    }
}

/// Why a model file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sizes do not fit together.
    #[error("model sizes do not fit: {0}")]
    Sizes(&'static str),
    /// The file system refused.
    #[error("write model file {path}")]
    Io {
        /// The file that was to be written.
        path: String,
        /// What the file system said.
        source: std::io::Error,
    },
}

impl Spec {
    /// Writes the model to `path`; the file appears whole, by a rename, or not at all.
    ///
    /// # Errors
    /// [`Error::Sizes`] when the sizes do not fit together, [`Error::Io`] when the
    /// folder cannot be made or the file not be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        self.check()?;
        let io = |source| Error::Io {
            path: path.display().to_string(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        // The process id keeps two writers of one file apart; the last rename wins,
        // and both wrote the same bytes.
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.part", std::process::id()));
        let written = File::create(&partial)
            .and_then(|file| self.write_to(BufWriter::new(file)))
            .and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            // The write error is what matters; a left-over part file is harmless.
            let _ = fs::remove_file(&partial);
        }
        written.map_err(io)
    }

    /// Writes the model's bytes to `out`.
    ///
    /// # Errors
    /// What `out` says. The sizes must have passed [`Spec::write`]'s check.
    fn write_to(&self, mut out: impl Write) -> std::io::Result<()> {
        let vocabulary = Vocabulary::learn();
        let tensors = weights::layout(self, vocabulary.len());
        gguf::header(&mut out, &self.metadata(&vocabulary), &tensors)?;
        weights::write(self, &vocabulary, &tensors, &mut out)?;
        out.flush()
    }

    fn check(&self) -> Result<(), Error> {
        let zero = [self.layers, self.dim, self.ff, self.heads, self.kv_heads].contains(&0);
        if zero {
            return Err(Error::Sizes("no size may be zero"));
        }
        if !self.dim.is_multiple_of(32) || !self.ff.is_multiple_of(32) {
            return Err(Error::Sizes("--dim and --ff must be multiples of 32"));
        }
        if !self.dim.is_multiple_of(2 * self.heads) {
            return Err(Error::Sizes("--dim must be a multiple of twice --heads"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Sizes("--heads must be a multiple of --kv-heads"));
        }
        Ok(())
    }

    fn metadata(&self, vocabulary: &Vocabulary) -> Vec<(String, Entry)> {
        let arch = self.arch.name();
        let of_arch = |key: &str, value| (format!("{arch}.{key}"), value);
        let of_tokenizer = |key: &str, value| (format!("tokenizer.{key}"), value);
        let mut entries = vec![
            ("general.architecture".into(), Entry::text(arch)),
            ("general.name".into(), Entry::text(&self.name)),
            (
                "general.description".into(),
                Entry::text("synthetic weights for engine tests; not a trained model"),
            ),
            (
                "general.file_type".into(),
                Entry::U32(gguf::file_type(self.dtype)),
            ),
            of_arch("vocab_size", Entry::count(vocabulary.len())),
            of_arch("context_length", Entry::U32(self.context)),
            of_arch("embedding_length", Entry::count(self.dim)),
            of_arch("block_count", Entry::count(self.layers)),
            of_arch("feed_forward_length", Entry::count(self.ff)),
            of_arch("attention.head_count", Entry::count(self.heads)),
            of_arch("attention.head_count_kv", Entry::count(self.kv_heads)),
            of_arch("rope.dimension_count", Entry::count(self.dim / self.heads)),
            of_arch("rope.freq_base", Entry::F32(10_000.0)),
            of_arch("attention.layer_norm_rms_epsilon", Entry::F32(1e-5)),
        ];
        if self.arch == Arch::Qwen3 {
            let head = Entry::count(self.dim / self.heads);
            entries.push(of_arch("attention.key_length", head.clone()));
            entries.push(of_arch("attention.value_length", head));
        }
        entries.extend([
            of_tokenizer("ggml.model", Entry::text("gpt2")),
            of_tokenizer("ggml.pre", Entry::text(self.words.name())),
            of_tokenizer("ggml.tokens", Entry::Texts(vocabulary.tokens().to_vec())),
            of_tokenizer("ggml.token_type", Entry::I32s(vocabulary.kinds())),
            of_tokenizer("ggml.merges", Entry::Texts(vocabulary.merges())),
            of_tokenizer(
                "ggml.bos_token_id",
                Entry::U32(vocabulary.id(vocabulary::END_OF_TEXT)),
            ),
            of_tokenizer(
                "ggml.eos_token_id",
                Entry::U32(vocabulary.id(vocabulary::TURN_END)),
            ),
            of_tokenizer(
                "ggml.padding_token_id",
                Entry::U32(vocabulary.id(vocabulary::END_OF_TEXT)),
            ),
            of_tokenizer(
                "ggml.add_bos_token",
                Entry::Bool(self.words == Words::LlamaBpe),
            ),
            of_tokenizer("chat_template", Entry::text(CHAT_TEMPLATE)),
        ]);
        entries
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn digest(spec: &Spec) -> String {
        spec.check().unwrap();
        let mut bytes = Vec::new();
        spec.write_to(&mut bytes).unwrap();
        crate::digest::hex(&Sha256::digest(&bytes))
    }

    #[test]
    fn the_same_spec_gives_the_same_bytes_everywhere() {
        let spec = Spec::default();
        assert_eq!(
            digest(&spec),
            "b2a3183bf4347f82fc310f6d95a9ef9a4206a2cccac30a7b1dc1440d5b47c604"
        );
        assert_eq!(
            digest(&Spec {
                dtype: Dtype::Q8_0,
                ..spec.clone()
            }),
            "dae19e1f7d289dacfb680dc7960aeddaeac1807615c274ea5a76e3a20f2a768c"
        );
        assert_eq!(
            digest(&Spec {
                seed: 7,
                name: "other".into(),
                layers: 3,
                ..spec
            }),
            "61467a2b6f06302478f805b1f456516b3649ca2ec7e799e82a298192343e7183"
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for spec in [
            Spec {
                dim: 48,
                ..Spec::default()
            },
            Spec {
                heads: 3,
                ..Spec::default()
            },
            Spec {
                kv_heads: 3,
                ..Spec::default()
            },
            Spec {
                layers: 0,
                ..Spec::default()
            },
        ] {
            let folder = tempfile::tempdir().unwrap();
            let refused = spec.write(&folder.path().join("model.gguf"));
            assert!(matches!(refused, Err(Error::Sizes(_))), "{spec:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
