//! A loaded model with everything an answer needs.

use std::path::Path;

use crate::digest;
use crate::model::{self, Cache, Decoder, ModelFile};
use crate::template::{self, Template};
use crate::tokenizer::Tokenizer;

/// Why an engine cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model file cannot be used.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The chat template cannot be used.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// The digest of the file cannot be computed.
    #[error("compute digest of model file")]
    Digest(#[source] std::io::Error),
    /// The compute threads cannot be started.
    #[error("start compute threads: lower --threads")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// What to load, and how much of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most tokens of prompt and answer together; the model's own limit holds as well.
    pub context: usize,
    /// Threads that compute, for all answers together.
    pub threads: usize,
}

/// A model ready to answer. Shared by all answers.
pub struct Engine {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Chat to prompt.
    pub template: Template,
    /// Most tokens of prompt and answer together.
    pub context: usize,
    /// SHA-256 of the model file, in hexadecimal digits.
    pub digest: String,
    /// Size of the model file in bytes.
    pub file_bytes: u64,
    pub(crate) decoder: Decoder,
    threads: rayon::ThreadPool,
}

impl Engine {
    /// Loads the model file at `path`. Takes a moment: it reads the whole file twice.
    ///
    /// # Errors
    /// Says which part of the file cannot be used, and what to do.
    pub fn load(path: &Path, settings: &Settings) -> Result<Self, Error> {
        let file = ModelFile::open(path)?;
        let tokenizer = Tokenizer::from_metadata(&file.metadata())?;
        let source = file.metadata().text("tokenizer.chat_template");
        let template = Template::new(source, tokenizer.start_text(), tokenizer.end_text())?;
        let threads = settings.threads.max(1);
        let decoder = file.decoder(threads)?;
        // Rayon's threads sleep when there is nothing to compute, and answers beyond their
        // number take turns, token by token.
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|n| format!("compute-{n}"))
            .build()?;
        Ok(Self {
            tokenizer,
            template,
            context: settings.context.min(decoder.context()),
            digest: digest::of_file(path).map_err(Error::Digest)?,
            file_bytes: std::fs::metadata(path).map_err(Error::Digest)?.len(),
            decoder,
            threads: pool,
        })
    }

    /// Reads `ids` behind what `cache` has read; see [`Decoder::read`].
    ///
    /// # Errors
    /// [`model::Error::Compute`].
    pub(crate) fn step(&self, cache: &mut Cache, ids: &[u32]) -> Result<Vec<f32>, model::Error> {
        self.threads.install(|| self.decoder.read(cache, ids))
    }

    /// The text that `ids` stand for, as a reader of the answer has seen it.
    pub(crate) fn text_of(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|&id| self.tokenizer.bytes(id))
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
