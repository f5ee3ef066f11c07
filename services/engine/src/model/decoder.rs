//! The layers of a model and the pass of new tokens through them.

use super::attention::{LayerCache, Rotation, attend};
use super::kernel::{add_scaled, add_to_rows, gate, normalise};
use super::matrix::Matrix;
use super::metadata::Sizes;
use super::{Error, ModelFile};

/// Weights, shared by all answers. What an answer has read so far is its own [`Cache`].
pub struct Decoder {
    sizes: Sizes,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None` when the embedding serves as the output, too.
    output: Option<Matrix>,
    rotation: Rotation,
}

/// What one answer has read so far: keys and values of every token, in every layer.
#[derive(Clone)]
pub struct Cache {
    layers: Vec<LayerCache>,
    tokens: usize,
}

impl Cache {
    /// Number of tokens read.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Projection,
    key: Projection,
    value: Projection,
    attention_output: Matrix,
    ff_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// A matrix with what some architectures do to its result.
struct Projection {
    weights: Matrix,
    bias: Option<Vec<f32>>,
    /// Applied to each head.
    norm: Option<Vec<f32>>,
}

impl Decoder {
    pub(super) fn load(file: &mut ModelFile, sizes: Sizes, threads: usize) -> Result<Self, Error> {
        let dim = sizes.dim;
        let vocabulary = (sizes.vocabulary, dim);
        let embedding = file.matrix("token_embd.weight", vocabulary, threads)?;
        let output = match file.has("output.weight") {
            true => Some(file.matrix("output.weight", vocabulary, threads)?),
            false => None,
        };
        let factors = match file.has("rope_freqs.weight") {
            true => Some(file.vector("rope_freqs.weight", sizes.rotary_dim / 2)?),
            false => None,
        };
        let layers = (0..sizes.layers).map(|layer| Layer::load(file, &sizes, layer, threads));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: file.vector("output_norm.weight", dim)?,
            rotation: Rotation::new(&sizes, factors.as_deref()),
            embedding,
            output,
            sizes,
        })
    }

    /// Longest text, in tokens, that the model was made for.
    pub fn context(&self) -> usize {
        self.sizes.context
    }

    /// Width of the model.
    pub fn dim(&self) -> usize {
        self.sizes.dim
    }

    /// Number of weights in all matrices.
    pub fn parameters(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::parameters).sum();
        layers + self.embedding.len() + self.output.as_ref().map_or(0, Matrix::len)
    }

    /// A cache that has read nothing.
    pub fn cache(&self) -> Cache {
        Cache {
            layers: vec![LayerCache::default(); self.sizes.layers],
            tokens: 0,
        }
    }

    /// Reads `ids` behind what `cache` has read, and gives a score for each token of the
    /// vocabulary to come next. `ids` must not be empty and must be of the vocabulary.
    ///
    /// # Errors
    /// [`Error::Compute`] when an id is unknown or a product cannot be computed.
    pub fn read(&self, cache: &mut Cache, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let mut stream = Vec::with_capacity(ids.len() * self.sizes.dim);
        for &id in ids {
            if id as usize >= self.sizes.vocabulary {
                return Err(Error::Compute(candle_core::Error::Msg(format!(
                    "unknown token {id}"
                ))));
            }
            stream.extend(self.embedding.row(id as usize)?);
        }
        for (layer, cached) in self.layers.iter().zip(&mut cache.layers) {
            layer.attention(&mut stream, cached, self, cache.tokens)?;
            layer.feed_forward(&mut stream, &self.sizes)?;
        }
        cache.tokens += ids.len();
        let mut last = stream.split_off(stream.len() - self.sizes.dim);
        normalise(&mut last, &self.norm, self.sizes.epsilon);
        Ok(self
            .output
            .as_ref()
            .unwrap_or(&self.embedding)
            .products(&last)?)
    }
}

impl Layer {
    fn load(
        file: &mut ModelFile,
        sizes: &Sizes,
        layer: usize,
        threads: usize,
    ) -> Result<Self, Error> {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let (dim, ff) = (sizes.dim, sizes.ff);
        let queries = sizes.heads * sizes.head;
        let mut projection = |part: &str, rows: usize| {
            Projection::load(
                file,
                &format!("blk.{layer}.attn_{part}"),
                (rows, dim),
                sizes,
                threads,
            )
        };
        let query = projection("q", queries)?;
        let key = projection("k", sizes.kv())?;
        let value = projection("v", sizes.kv())?;
        Ok(Self {
            query,
            key,
            value,
            attention_norm: file.vector(&name("attn_norm"), dim)?,
            attention_output: file.matrix(&name("attn_output"), (dim, queries), threads)?,
            ff_norm: file.vector(&name("ffn_norm"), dim)?,
            gate: file.matrix(&name("ffn_gate"), (ff, dim), threads)?,
            up: file.matrix(&name("ffn_up"), (ff, dim), threads)?,
            down: file.matrix(&name("ffn_down"), (dim, ff), threads)?,
        })
    }

    fn attention(
        &self,
        stream: &mut [f32],
        cache: &mut LayerCache,
        decoder: &Decoder,
        position: usize,
    ) -> Result<(), Error> {
        let sizes = &decoder.sizes;
        let mut input = stream.to_vec();
        normalise(&mut input, &self.attention_norm, sizes.epsilon);
        let mut queries = self.query.apply(&input, sizes)?;
        let mut keys = self.key.apply(&input, sizes)?;
        let turn = |heads: &mut [f32], width: usize| {
            let tokens = heads.chunks_exact_mut(width).zip(position..);
            tokens.for_each(|(heads, position)| decoder.rotation.turn(heads, position));
        };
        turn(&mut queries, sizes.heads * sizes.head);
        turn(&mut keys, sizes.kv());
        cache.keys.extend(keys);
        cache.values.extend(self.value.apply(&input, sizes)?);
        let read = attend(&queries, cache, sizes);
        add_scaled(stream, 1.0, &self.attention_output.products(&read)?);
        Ok(())
    }

    fn feed_forward(&self, stream: &mut [f32], sizes: &Sizes) -> Result<(), Error> {
        let mut input = stream.to_vec();
        normalise(&mut input, &self.ff_norm, sizes.epsilon);
        let mut inner = self.up.products(&input)?;
        gate(&mut inner, &self.gate.products(&input)?);
        add_scaled(stream, 1.0, &self.down.products(&inner)?);
        Ok(())
    }

    fn parameters(&self) -> usize {
        let projections = [&self.query, &self.key, &self.value].map(|part| part.weights.len());
        let matrices = [&self.attention_output, &self.gate, &self.up, &self.down];
        projections.iter().sum::<usize>() + matrices.map(Matrix::len).iter().sum::<usize>()
    }
}

impl Projection {
    fn load(
        file: &mut ModelFile,
        name: &str,
        shape: (usize, usize),
        sizes: &Sizes,
        threads: usize,
    ) -> Result<Self, Error> {
        let (bias, norm) = (format!("{name}.bias"), format!("{name}_norm.weight"));
        Ok(Self {
            weights: file.matrix(&format!("{name}.weight"), shape, threads)?,
            bias: file
                .has(&bias)
                .then(|| file.vector(&bias, shape.0))
                .transpose()?,
            norm: file
                .has(&norm)
                .then(|| file.vector(&norm, sizes.head))
                .transpose()?,
        })
    }

    fn apply(&self, input: &[f32], sizes: &Sizes) -> Result<Vec<f32>, Error> {
        let mut output = self.weights.products(input)?;
        if let Some(bias) = &self.bias {
            add_to_rows(&mut output, bias);
        }
        if let Some(norm) = &self.norm {
            normalise(&mut output, norm, sizes.epsilon);
        }
        Ok(output)
    }
}
