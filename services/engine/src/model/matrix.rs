//! A weight matrix: plain floats, or candle's quantised blocks.
//!
//! Rows are cut into parts that threads of the compute pool work on side by side. Each
//! output number belongs to one row, so cutting changes no result.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use rayon::prelude::*;

use super::kernel::dot;

/// Multiplications below which waking another thread costs more than it saves.
const WORTH_SHARING: usize = 1 << 18;

/// `rows` times `columns` weights; maps a vector of `columns` numbers to one of `rows`.
pub(super) struct Matrix {
    rows: usize,
    columns: usize,
    parts: Vec<Part>,
}

enum Part {
    Floats(Vec<f32>),
    Blocks {
        rows: usize,
        blocks: Arc<QTensor>,
        product: QMatMul,
    },
}

impl Matrix {
    /// Takes the tensor's weights, cut into at most `parts` parts.
    pub(super) fn new(tensor: &QTensor, rows: usize, columns: usize, parts: usize) -> Result<Self> {
        let rows_per_part = rows.div_ceil(parts.clamp(1, rows));
        let parts = match tensor.dtype() {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => {
                let numbers = tensor
                    .dequantize(&Device::Cpu)?
                    .flatten_all()?
                    .to_vec1::<f32>()?;
                let parts = numbers.chunks(rows_per_part * columns);
                parts.map(|part| Part::Floats(part.to_vec())).collect()
            }
            GgmlDType::Q4_0
            | GgmlDType::Q4_1
            | GgmlDType::Q5_0
            | GgmlDType::Q5_1
            | GgmlDType::Q8_0
            | GgmlDType::Q8_1
            | GgmlDType::Q2K
            | GgmlDType::Q3K
            | GgmlDType::Q4K
            | GgmlDType::Q5K
            | GgmlDType::Q6K
            | GgmlDType::Q8K => {
                let data = tensor.data()?;
                let row = data.len() / rows;
                let parts = data.chunks(rows_per_part * row).map(|part| {
                    let rows = part.len() / row;
                    let storage = QStorage::from_data(part.into(), &Device::Cpu, tensor.dtype())?;
                    let blocks = Arc::new(QTensor::new(storage, (rows, columns))?);
                    let product = QMatMul::QTensor(Arc::clone(&blocks));
                    Ok(Part::Blocks {
                        rows,
                        blocks,
                        product,
                    })
                });
                parts.collect::<Result<_>>()?
            }
        };
        Ok(Self {
            rows,
            columns,
            parts,
        })
    }

    /// Number of weights.
    pub(super) fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// One row as plain floats; `row` must be within the matrix.
    pub(super) fn row(&self, row: usize) -> Result<Vec<f32>> {
        let rows_per_part = self.parts.first().map_or(1, |part| part.rows(self.columns));
        let (part, row) = (&self.parts[row / rows_per_part], row % rows_per_part);
        match part {
            Part::Floats(weights) => Ok(weights[row * self.columns..][..self.columns].to_vec()),
            Part::Blocks { blocks, .. } => {
                let id = Tensor::new(&[row as u32], &Device::Cpu)?;
                blocks.embedding(&id)?.flatten_all()?.to_vec1()
            }
        }
    }

    /// The products of the matrix with each vector of `inputs`, one after the other.
    pub(super) fn products(&self, inputs: &[f32]) -> Result<Vec<f32>> {
        let product = |part: &Part| part.products(inputs, self.columns);
        if let [part] = self.parts.as_slice() {
            return product(part);
        }
        let shared = inputs.len() * self.rows >= WORTH_SHARING;
        let outputs: Vec<Vec<f32>> = if shared {
            self.parts.par_iter().map(product).collect::<Result<_>>()?
        } else {
            self.parts.iter().map(product).collect::<Result<_>>()?
        };
        Ok(self.side_by_side(&outputs, inputs.len() / self.columns))
    }

    fn side_by_side(&self, outputs: &[Vec<f32>], vectors: usize) -> Vec<f32> {
        let mut joined = Vec::with_capacity(vectors * self.rows);
        for vector in 0..vectors {
            for output in outputs {
                let rows = output.len() / vectors;
                joined.extend_from_slice(&output[vector * rows..][..rows]);
            }
        }
        joined
    }
}

impl Part {
    fn rows(&self, columns: usize) -> usize {
        match self {
            Self::Floats(weights) => weights.len() / columns,
            Self::Blocks { rows, .. } => *rows,
        }
    }

    fn products(&self, inputs: &[f32], columns: usize) -> Result<Vec<f32>> {
        match self {
            Self::Floats(weights) => Ok(float_products(weights, inputs, columns)),
            Self::Blocks { product, .. } => {
                let shape = (inputs.len() / columns, columns);
                let inputs = Tensor::from_slice(inputs, shape, &Device::Cpu)?;
                product.forward(&inputs)?.flatten_all()?.to_vec1()
            }
        }
    }
}

fn float_products(weights: &[f32], inputs: &[f32], columns: usize) -> Vec<f32> {
    let rows = weights.len() / columns;
    let mut outputs = vec![0.0; inputs.len() / columns * rows];
    // Weights outside, vectors inside: each row is read from memory once per call.
    for (row, weights) in weights.chunks_exact(columns).enumerate() {
        let outputs = outputs[row..].iter_mut().step_by(rows);
        for (output, input) in outputs.zip(inputs.chunks_exact(columns)) {
            *output = dot(weights, input);
        }
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(dtype: GgmlDType, parts: usize) -> Matrix {
        let numbers: Vec<f32> = (0..10 * 64).map(|n| ((n * 7) % 23) as f32 - 11.0).collect();
        let tensor = Tensor::from_vec(numbers, (10, 64), &Device::Cpu).unwrap();
        Matrix::new(&QTensor::quantize(&tensor, dtype).unwrap(), 10, 64, parts).unwrap()
    }

    #[test]
    fn cutting_changes_no_result() {
        let inputs: Vec<f32> = (0..3 * 64).map(|n| (n % 13) as f32 / 13.0).collect();
        for dtype in [GgmlDType::F32, GgmlDType::Q8_0] {
            let whole = matrix(dtype, 1);
            for parts in [2, 3, 4, 99] {
                let cut = matrix(dtype, parts);
                assert_eq!(
                    cut.products(&inputs).unwrap(),
                    whole.products(&inputs).unwrap()
                );
                for row in 0..10 {
                    assert_eq!(cut.row(row).unwrap(), whole.row(row).unwrap());
                }
            }
        }
    }

    #[test]
    fn one_vector_alone_gives_what_it_gives_among_others() {
        let inputs: Vec<f32> = (0..3 * 64).map(|n| (n % 13) as f32 / 13.0).collect();
        let matrix = matrix(GgmlDType::F32, 1);
        let together = matrix.products(&inputs).unwrap();
        let alone: Vec<f32> = inputs
            .chunks(64)
            .flat_map(|input| matrix.products(input).unwrap())
            .collect();
        assert_eq!(together, alone);
    }
}
