//! A language model read from a GGUF file, and one step of it.
//!
//! The file's container and its quantised blocks are candle's; the forward pass is
//! ours, for two reasons. Weights must be shared by all running answers while each has
//! its own cache, and one answer's numbers must not depend on what runs beside it or on
//! where it was taken up again: every token's output is computed row by row with a fixed
//! order of additions, so a continued answer is the undisturbed one, bit for bit.

mod attention;
mod decoder;
mod kernel;
mod matrix;
mod metadata;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::Content;

pub use decoder::{Cache, Decoder};
use matrix::Matrix;
pub use metadata::Metadata;
use metadata::Sizes;

/// Why a model file cannot be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("open model file {path}: check the path given with --model")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The file is not a complete GGUF file.
    #[error(
        "read model file {path}: it is not a complete GGUF file ({reason}); fetch it again or name another with --model"
    )]
    Broken {
        /// The path as given.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The file is complete but of an architecture that this engine cannot run.
    #[error(
        "model architecture `{0}` is not supported by the starter engine (it runs llama, qwen2 and qwen3): serve this file with llama-server, or name another with --model"
    )]
    Architecture(String),
    /// The vocabulary is of a kind that this engine cannot read.
    #[error(
        "the model's tokenizer cannot be used: {0}; serve this file with llama-server, or name another with --model"
    )]
    Tokenizer(String),
    /// A step of the model failed.
    #[error("compute model step: {0}")]
    Compute(#[from] candle_core::Error),
}

/// An opened GGUF file: its metadata, and its tensors on demand.
pub struct ModelFile {
    path: PathBuf,
    content: Content,
    reader: BufReader<File>,
}

impl ModelFile {
    /// Opens the file and reads its directory, not its tensors.
    ///
    /// # Errors
    /// [`Error::Open`] or [`Error::Broken`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let opened = File::open(path);
        let file = opened.map_err(|source| Error::Open {
            path: path.into(),
            source,
        })?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader).map_err(|error| broken(path, &error))?;
        Ok(Self {
            path: path.into(),
            content,
            reader,
        })
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::new(&self.content.metadata)
    }

    /// Reads all tensors.
    ///
    /// `threads` is the number of parts that large matrices are cut into.
    ///
    /// # Errors
    /// [`Error::Architecture`] for one we cannot run, [`Error::Broken`] when a tensor
    /// or a size is missing or does not fit.
    pub fn decoder(mut self, threads: usize) -> Result<Decoder, Error> {
        let sizes = Sizes::read(&self.metadata(), &self.path)?;
        Decoder::load(&mut self, sizes, threads)
    }

    fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A vector of exactly `len` numbers.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name, &[len])?;
        let numbers = tensor
            .dequantize(&Device::Cpu)
            .and_then(|tensor| tensor.to_vec1());
        numbers.map_err(|error| broken(&self.path, &error))
    }

    /// A matrix of exactly `rows` times `columns` numbers.
    fn matrix(
        &mut self,
        name: &str,
        (rows, columns): (usize, usize),
        parts: usize,
    ) -> Result<Matrix, Error> {
        let tensor = self.tensor(name, &[rows, columns])?;
        Matrix::new(&tensor, rows, columns, parts).map_err(|error| broken(&self.path, &error))
    }

    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<QTensor, Error> {
        let tensor = self.content.tensor(&mut self.reader, name, &Device::Cpu);
        let tensor = tensor.map_err(|error| broken(&self.path, &error))?;
        if tensor.shape().dims() == shape {
            return Ok(tensor);
        }
        Err(Error::Broken {
            path: self.path.clone(),
            reason: format!(
                "{name} has shape {:?} instead of {shape:?}",
                tensor.shape().dims()
            ),
        })
    }
}

fn broken(path: &Path, error: &candle_core::Error) -> Error {
    // candle's errors may carry a backtrace after the first line.
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default().to_owned();
    Error::Broken {
        path: path.into(),
        reason,
    }
}
