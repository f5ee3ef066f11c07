//! Files of several kinds: each runs as its reference does, or is refused with advice.

use std::fs;

use orchion_engine::engine::{Engine, Error, Settings};
use orchion_engine::model;
use orchion_engine::synth::{Arch, Dtype, Spec, Words};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{SETTINGS, engine, ids, start_with};

/// Greedy answers as candle's own quantised models give them for the same files.
#[tokio::test]
async fn each_architecture_runs_as_its_reference_does() {
    const Q8_LLAMA: [u64; 16] = [
        456, 293, 467, 271, 446, 325, 343, 368, 110, 259, 313, 381, 310, 118, 101, 257,
    ];
    const QWEN2: [u64; 16] = [
        456, 293, 467, 271, 446, 325, 385, 297, 309, 457, 301, 267, 32, 476, 46, 508,
    ];
    const QWEN3: [u64; 16] = [
        456, 293, 467, 271, 446, 325, 343, 368, 110, 259, 291, 448, 344, 116, 380, 484,
    ];
    for (arch, dtype, expected) in [
        (Arch::Llama, Dtype::Q8_0, Q8_LLAMA),
        (Arch::Qwen2, Dtype::F16, QWEN2),
        (Arch::Qwen2, Dtype::Q8_0, QWEN2),
        (Arch::Qwen3, Dtype::F16, QWEN3),
        (Arch::Qwen3, Dtype::Q8_0, QWEN3),
    ] {
        let spec = Spec {
            arch,
            dtype,
            ..Spec::default()
        };
        let server = start_with(engine(&spec, &SETTINGS), 1).await;
        let fields = json!({"temperature": 0, "max_tokens": 16, "ignore_eos": true});
        // A piece without text keeps its id for the next one; the last may miss its end token.
        let answer = ids(&server.chat(fields).await);
        assert_eq!(answer, expected[..answer.len()], "{arch:?} {dtype:?}");
        assert!(answer.len() >= 15);
    }
}

#[tokio::test]
async fn a_file_of_the_llama_3_kind_gets_its_start_token() {
    let spec = Spec {
        words: Words::LlamaBpe,
        ..Spec::default()
    };
    let with_start = engine(&spec, &SETTINGS);
    let without = engine(&Spec::default(), &SETTINGS);
    let text = "A job waits in the queue 123";
    let (mut plain, started) = (
        without.tokenizer.encode(text).unwrap(),
        with_start.tokenizer.encode(text).unwrap(),
    );
    plain.insert(0, started[0]);
    assert_eq!(started, plain);
    assert_eq!(with_start.tokenizer.start_text(), "<|endoftext|>");
    // Written out in the text it is not doubled.
    let written = with_start
        .tokenizer
        .encode(&format!("<|endoftext|>{text}"))
        .unwrap();
    assert_eq!(written, started);

    let server = start_with(with_start, 1).await;
    let answer = server.chat(json!({"seed": 1, "max_tokens": 8})).await;
    assert_eq!(answer["usage"]["prompt_tokens"], 27);
}

#[tokio::test]
async fn the_number_of_threads_changes_no_answer() {
    let mut answers = Vec::new();
    for threads in [1, 2, 5] {
        for dtype in [Dtype::F16, Dtype::Q8_0] {
            let spec = Spec {
                dtype,
                dim: 512,
                ff: 1024,
                heads: 8,
                kv_heads: 4,
                ..Spec::default()
            };
            let engine = engine(
                &spec,
                &Settings {
                    threads,
                    ..SETTINGS
                },
            );
            let server = start_with(engine, 1).await;
            let answer = server.chat(json!({"seed": 1, "max_tokens": 40})).await;
            answers.push((dtype, answer["orchion"].clone()));
        }
    }
    for (dtype, answer) in &answers {
        let first = answers.iter().find(|(other, _)| other == dtype).unwrap();
        assert_eq!(answer, &first.1);
    }
}

#[test]
fn a_file_that_cannot_be_used_says_why_and_what_to_do() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    let refusal = || Engine::load(&path, &SETTINGS).err().unwrap();
    assert!(matches!(refusal(), Error::Model(model::Error::Open { .. })));

    fs::write(&path, b"not a model").unwrap();
    assert!(matches!(
        refusal(),
        Error::Model(model::Error::Broken { .. })
    ));

    Spec::default().write(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for keep in [100, 20_000, whole.len() / 2] {
        fs::write(&path, &whole[..keep]).unwrap();
        let error = refusal();
        assert!(
            matches!(error, Error::Model(model::Error::Broken { .. })),
            "{keep}: {error}"
        );
        assert!(error.to_string().contains("fetch it again"));
    }

    fs::write(&path, replaced(&whole, b"llama", b"mamba")).unwrap();
    let error = refusal();
    assert!(
        matches!(error, Error::Model(model::Error::Architecture(_))),
        "{error}"
    );
    assert!(error.to_string().contains("`mamba`") && error.to_string().contains("llama-server"));

    for (from, to) in [(&b"gpt2"[..], &b"t5xx"[..]), (b"qwen2", b"other")] {
        fs::write(&path, replaced(&whole, from, to)).unwrap();
        let error = refusal();
        assert!(
            matches!(error, Error::Model(model::Error::Tokenizer(_))),
            "{error}"
        );
        assert!(error.to_string().contains("llama-server"));
    }
}

/// `bytes` with the first `from` replaced by `to`, which is as long.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}
