//! The embedded starter engine: a small language model server for a first start.
//!
//! It answers OpenAI's chat and completion requests on loopback, on any CPU, with a tiny
//! model that it writes itself or with a given GGUF file of the llama, qwen2 or qwen3
//! kind. It is meant to be tried, not to be lived with: it uses no GPU, batches nothing,
//! forces no output format and calls no tools. For daily use run llama-server, Ollama or
//! vLLM.
//!
//! What must hold:
//! - It never queues: a request beyond its slots is refused at once.
//! - Closing the connection ends an answer within one token.
//! - A continued answer is the undisturbed one: the same file, prompt, settings and seed
//!   give the same tokens, whole or taken up again after any of them.

pub mod cli;
pub mod digest;
pub mod engine;
pub mod generate;
pub mod http;
pub mod model;
pub mod sampler;
pub mod slots;
pub mod starter;
pub mod synth;
pub mod template;
pub mod text;
pub mod tokenizer;
