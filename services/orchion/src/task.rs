//! A task as it is submitted, and which model it goes to.

use std::time::Duration;

use orchion_contract::JobId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::exit::{Failure, Kind, Result};
use crate::gateway::Gateway;

/// The model of the starter engine. It babbles: it shows that everything works,
/// and answers nobody's question.
const STARTER: &str = "orchion-starter";

/// What to generate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// Which model.
    pub(crate) model: String,
    /// The conversation so far, in OpenAI's form.
    pub(crate) messages: Vec<Message>,
    /// Most tokens to generate.
    pub(crate) max_tokens: Option<u32>,
    /// How freely to choose; 0 always takes the likeliest token.
    pub(crate) temperature: Option<f64>,
    /// Seed of the sampler.
    pub(crate) seed: Option<u64>,
    /// Whether nobody waits for it.
    pub(crate) batch: bool,
    /// From admission to end.
    pub(crate) deadline: Option<Duration>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

impl Message {
    /// What a person says.
    pub(crate) fn user(content: impl Into<String>) -> Self {
        Self {
            role: "user",
            content: content.into(),
        }
    }

    /// How the model shall behave.
    pub(crate) fn system(content: impl Into<String>) -> Self {
        Self {
            role: "system",
            content: content.into(),
        }
    }

    /// What the model said.
    pub(crate) fn assistant(content: impl Into<String>) -> Self {
        Self {
            role: "assistant",
            content: content.into(),
        }
    }
}

impl Task {
    /// The body of `POST /v1/tasks`.
    pub(crate) fn body(&self, id: JobId) -> Value {
        let mut body = Map::from_iter([
            ("task_id".to_owned(), json!(id)),
            ("workload".to_owned(), json!("chat")),
            ("model_ref".to_owned(), json!(self.model)),
            ("messages".to_owned(), json!(self.messages)),
        ]);
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("max_tokens", self.max_tokens.map(Value::from));
        put("temperature", self.temperature.map(Value::from));
        put("seed", self.seed.map(Value::from));
        put("priority", self.batch.then(|| json!("batch")));
        let deadline = self.deadline.map(|deadline| deadline.as_millis());
        put("deadline_ms", deadline.map(|ms| json!(ms as u64)));
        Value::Object(body)
    }

    /// Submits it under an id of our own, so that a repeat changes nothing, and
    /// repeats for a minute what may pass. `waiting` hears once why it waits.
    pub(crate) async fn submit(
        &self,
        gateway: &Gateway,
        id: JobId,
        mut waiting: impl FnMut(&str),
    ) -> Result<Value> {
        let body = self.body(id);
        let mut patience = gateway.patience();
        loop {
            let failure = match gateway.post("/v1/tasks", &body).await {
                Ok(admission) => return Ok(admission.unwrap_or(Value::Null)),
                Err(failure) if gateway.is_worth_waiting(&failure) => failure,
                Err(failure) => return Err(failure),
            };
            let Some(pause) = patience.pause(failure.retry_after) else {
                return Err(failure);
            };
            if let Some(text) = patience.first_reason(&failure) {
                waiting(&text);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// The names of the models that are offered.
pub(crate) async fn models(gateway: &Gateway) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let list: List = gateway.get("/v1/models").await?;
    Ok(list.data.into_iter().map(|model| model.id).collect())
}

/// The model to take when none is named: the first, but the starter last.
pub(crate) fn first_choice(models: Vec<String>) -> Option<String> {
    models.into_iter().min_by_key(|model| model == STARTER)
}

/// The model that was named, else the first choice of those that are offered.
pub(crate) async fn choose_model(gateway: &Gateway, named: Option<&str>) -> Result<String> {
    if let Some(model) = named {
        return Ok(model.to_owned());
    }
    first_choice(models(gateway).await?).ok_or_else(|| {
        Failure::new(Kind::Retry, "no node offers a model yet")
            .then("look with `orchion nodes`; add a host with `orchion agent`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_is_taken_only_when_nothing_else_is_offered() {
        let choice = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            first_choice(names.collect())
        };
        assert_eq!(
            choice(&[STARTER, "qwen3-8b", "zeta"]).as_deref(),
            Some("qwen3-8b")
        );
        assert_eq!(choice(&["alpha", STARTER]).as_deref(), Some("alpha"));
        assert_eq!(choice(&[STARTER]).as_deref(), Some(STARTER));
        assert_eq!(choice(&[]), None);
    }

    #[test]
    fn only_what_was_asked_for_is_sent() {
        let task = Task {
            model: "m".to_owned(),
            messages: vec![Message::user("hi")],
            temperature: Some(0.0),
            ..Task::default()
        };
        let id: JobId = "0192f000-0000-7000-8000-000000000000".parse().unwrap();
        insta::assert_json_snapshot!(task.body(id), @r#"
        {
          "messages": [
            {
              "content": "hi",
              "role": "user"
            }
          ],
          "model_ref": "m",
          "task_id": "0192f000-0000-7000-8000-000000000000",
          "temperature": 0.0,
          "workload": "chat"
        }
        "#);
    }
}
