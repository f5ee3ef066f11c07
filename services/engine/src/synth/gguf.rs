//! The GGUF container, version 3: header, metadata and tensor directory.
//!
//! Only what the writer needs; little-endian, tensor data aligned to 32 bytes.

use std::io::{self, Write};

use half::f16;

use super::Dtype;

const ALIGNMENT: usize = 32;
const BLOCK: usize = 32;

/// One metadata value.
#[derive(Clone)]
pub(super) enum Entry {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

impl Entry {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A size; every size of a written model is far below 2^32.
    pub(super) fn count(count: usize) -> Self {
        Self::U32(count as u32)
    }
}

/// One tensor of the directory: `rows` of `columns` numbers, row after row.
pub(super) struct TensorPlan {
    pub(super) name: String,
    /// `None` for a vector.
    pub(super) rows: Option<usize>,
    pub(super) columns: usize,
    pub(super) dtype: Dtype,
}

impl TensorPlan {
    fn bytes(&self) -> usize {
        let numbers = self.rows.unwrap_or(1) * self.columns;
        match self.dtype {
            Dtype::F32 => numbers * 4,
            Dtype::F16 => numbers * 2,
            Dtype::Q8_0 => numbers / BLOCK * (BLOCK + 2),
        }
    }
}

/// The number under which GGUF knows a file made mostly of `dtype`.
pub(super) fn file_type(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q8_0 => 7,
    }
}

/// Writes everything before the tensor data, padding included.
pub(super) fn header(
    out: &mut impl Write,
    metadata: &[(String, Entry)],
    tensors: &[TensorPlan],
) -> io::Result<()> {
    let mut head = b"GGUF".to_vec();
    head.extend(3_u32.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut head, key);
        put_entry(&mut head, value);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_tensor(&mut head, tensor, offset);
        offset += tensor.bytes().next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&head)
}

/// Writes one tensor's numbers in its storage type, padding included.
pub(super) fn tensor(out: &mut impl Write, plan: &TensorPlan, numbers: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(plan.bytes().next_multiple_of(ALIGNMENT));
    match plan.dtype {
        Dtype::F32 => bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
        Dtype::F16 => bytes.extend(numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes())),
        Dtype::Q8_0 => numbers
            .chunks(BLOCK)
            .for_each(|block| put_block(&mut bytes, block)),
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    out.write_all(&bytes)
}

/// One block of 32 numbers: a 16-bit scale, then each number in units of it.
fn put_block(bytes: &mut Vec<u8>, block: &[f32]) {
    let largest = block.iter().fold(0_f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes.extend(f16::from_f32(scale).to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
}

fn put_text(head: &mut Vec<u8>, text: &str) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text.as_bytes());
}

fn put_entry(head: &mut Vec<u8>, entry: &Entry) {
    const U32: u32 = 4;
    const I32: u32 = 5;
    const F32: u32 = 6;
    const BOOL: u32 = 7;
    const TEXT: u32 = 8;
    const LIST: u32 = 9;
    let mut kind = |kind: u32| head.extend(kind.to_le_bytes());
    match entry {
        Entry::U32(value) => {
            kind(U32);
            head.extend(value.to_le_bytes());
        }
        Entry::F32(value) => {
            kind(F32);
            head.extend(value.to_le_bytes());
        }
        Entry::Bool(value) => {
            kind(BOOL);
            head.push(u8::from(*value));
        }
        Entry::Text(text) => {
            kind(TEXT);
            put_text(head, text);
        }
        Entry::Texts(texts) => {
            kind(LIST);
            kind(TEXT);
            head.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| put_text(head, text));
        }
        Entry::I32s(values) => {
            kind(LIST);
            kind(I32);
            head.extend((values.len() as u64).to_le_bytes());
            head.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
    }
}

fn put_tensor(head: &mut Vec<u8>, tensor: &TensorPlan, offset: usize) {
    put_text(head, &tensor.name);
    // GGUF names the innermost dimension first.
    let dimensions: Vec<usize> = [tensor.columns].into_iter().chain(tensor.rows).collect();
    head.extend((dimensions.len() as u32).to_le_bytes());
    head.extend(
        dimensions
            .iter()
            .flat_map(|&size| (size as u64).to_le_bytes()),
    );
    let code: u32 = match tensor.dtype {
        Dtype::F32 => 0,
        Dtype::F16 => 1,
        Dtype::Q8_0 => 8,
    };
    head.extend(code.to_le_bytes());
    head.extend((offset as u64).to_le_bytes());
}
