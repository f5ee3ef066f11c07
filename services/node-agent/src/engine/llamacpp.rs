//! llama.cpp's `llama-server`.
//!
//! It takes up a begun answer by chat, with the beginning as last message,
//! where the model's template leaves that message as it is; it is asked to
//! render both first. Where it does not, the rendered prompt and the beginning
//! go to `/completion` as one text.

mod resume;

use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orchion_contract::job::Workload;
use orchion_contract::node::{Continuation, EngineKind};
use serde::Deserialize;

use super::answer::{Answer, Form};
use super::body::BodyWriter;
use super::digest::Digests;
use super::openai::{self, get, path};
use super::{Ask, EngineAdapter, Error, Probed, Served, http};

/// Seeds have 32 bits, and the largest stands for a random one.
const LARGEST_SEED: u64 = u32::MAX as u64;

/// A running llama-server.
#[derive(Debug, Clone)]
pub struct LlamaCpp {
    client: http::Client,
    digests: Digests,
}

impl LlamaCpp {
    /// The llama-server that `client` talks to.
    #[must_use]
    pub fn new(client: http::Client, digests: Digests) -> Self {
        Self { client, digests }
    }

    /// The digest of its model file, when that is on this host.
    async fn digest(&self, path: Option<&Path>) -> Option<String> {
        let path = path.filter(|_| self.client.target().is_loopback())?;
        self.digests.of(path).await
    }
}

/// What `/props` tells; a router has fewer of these.
#[derive(Debug, Deserialize)]
struct Props {
    build_info: String,
    #[serde(default)]
    total_slots: Option<u32>,
    #[serde(default)]
    model_path: Option<PathBuf>,
    #[serde(default)]
    default_generation_settings: Option<Generation>,
}

#[derive(Debug, Deserialize)]
struct Generation {
    #[serde(default)]
    n_ctx: Option<u32>,
}

impl EngineAdapter for LlamaCpp {
    fn kind(&self) -> EngineKind {
        EngineKind::LlamaCpp
    }

    fn client(&self) -> &http::Client {
        &self.client
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probed, Error>> {
        async {
            let bytes = get(&self.client, "/props").await?;
            let props: Props = serde_json::from_slice(&bytes)
                .map_err(|_| Error::Strange("/props is not that of llama-server".to_owned()))?;
            let ctx = props.default_generation_settings.and_then(|set| set.n_ctx);
            let mut models = openai::models(&self.client).await?;
            if let [model] = models.as_mut_slice() {
                model.digest = self.digest(props.model_path.as_deref()).await;
            }
            for model in &mut models {
                // The context of one slot, not the model's whole one.
                model.ctx = ctx.or(model.ctx);
                if props.total_slots.is_some() {
                    name_by_file(model);
                }
            }
            Ok(Probed {
                version: Some(props.build_info),
                models,
                slots: props.total_slots,
                continuation: Continuation::Text,
            })
        }
        .boxed()
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Error>> {
        async { get(&self.client, "/health").await.map(drop) }.boxed()
    }

    fn open<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            if let (Some(rest), Workload::Chat) = (ask.rest, ask.spec.workload) {
                return resume::chat(&self.client, &ask, rest).await;
            }
            let mut writer = BodyWriter::new(&ask, LARGEST_SEED);
            writer.raw("timings_per_token", "true");
            if ask.repeats {
                // A cached prompt is read in other batches, which round otherwise.
                writer.raw("cache_prompt", "false");
            }
            if let Some(rest) = ask.rest {
                resume::feed_grammar(&mut writer, ask.spec, rest)?;
            }
            let (body, prompt) = openai::body(writer, &ask)?;
            let begun = self.client.open(path(ask.spec.workload)?, body).await?;
            Answer::of(begun, Form::OpenAi, prompt).await
        }
        .boxed()
    }
}

/// Without an alias, a server of one model calls it by the path of its file;
/// it takes any name, so it is shown by the file's own.
fn name_by_file(model: &mut Served) {
    let file = model.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = file.strip_suffix(".gguf").unwrap_or(file);
    if !stem.is_empty() {
        model.name = stem.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_called_after_its_file() {
        let named = |name: &str| {
            let mut model = Served {
                name: name.to_owned(),
                ctx: None,
                digest: None,
            };
            name_by_file(&mut model);
            model.name
        };
        assert_eq!(named("/models/Qwen2.5-0.5B-Q4.gguf"), "Qwen2.5-0.5B-Q4");
        assert_eq!(named("tiny"), "tiny");
    }
}
