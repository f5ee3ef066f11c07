//! What a task must look like, and the job it becomes.

use orchion_contract::job::{
    DEFAULT_DEADLINE_MS, JobSpec, MAX_DEADLINE_MS, Priority, Timeouts, Workload,
};
use orchion_contract::placement::{PlacementMode, PlacementSpec};
use orchion_contract::{ErrorCode, JobId};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fields::{Fields, wrong};
use crate::routes::chat::request::{check_messages, check_sampling, max_tokens, model};

/// Fields that the gateway reads itself; they are those of `TaskRequest`, and
/// their other names.
const OWN: [&str; 17] = [
    "task_id",
    "job_id",
    "id",
    "workload",
    "model_ref",
    "model",
    "inputs",
    "max_tokens",
    "max_completion_tokens",
    "priority",
    "deadline_ms",
    "wall_timeout_ms",
    "idle_timeout_ms",
    "seed",
    "expected_tokens",
    "placement",
    "n",
];

/// Fields of `placement`.
const PLACEMENT: [&str; 6] = [
    "mode",
    "pin_pool_id",
    "prefer_pools",
    "avoid_pools",
    "require_device_mask",
    "allow_fallback",
];

/// Fields that are passed on to the engine.
const PASSED_ON: [&str; 22] = [
    "messages",
    "prompt",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
    "repetition_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "response_format",
    "json_schema",
    "grammar",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "chat_template_kwargs",
];

/// A task. Settings of the sampler stand beside these fields, as in a chat; any
/// other field is refused.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read field by field")]
pub(crate) struct TaskRequest {
    /// A UUID of the caller's choice: the same id with the same body is the same task.
    task_id: Option<String>,
    /// `chat` with `messages`, `completion` with `prompt`.
    workload: Option<Workload>,
    /// Which model; `model` means the same.
    model_ref: Option<String>,
    /// Which model.
    model: Option<String>,
    /// A conversation.
    #[schema(value_type = Option<Vec<Object>>)]
    messages: Option<Vec<Value>>,
    /// A text to go on with.
    prompt: Option<String>,
    /// A list with one text, as `prompt`.
    inputs: Option<Vec<String>>,
    /// Most tokens to generate.
    #[schema(minimum = 1)]
    max_tokens: Option<u32>,
    /// Who goes first.
    priority: Option<Priority>,
    /// From admission to end, in milliseconds; ten minutes when absent.
    #[schema(minimum = 1, maximum = 3_600_000)]
    deadline_ms: Option<u64>,
    /// How long an engine may work on it, in milliseconds.
    #[schema(minimum = 1, maximum = 3_600_000)]
    wall_timeout_ms: Option<u64>,
    /// How long an engine may be silent within the answer, in milliseconds.
    #[schema(minimum = 1, maximum = 3_600_000)]
    idle_timeout_ms: Option<u64>,
    /// Seed of the sampler.
    seed: Option<u64>,
    /// Tokens that are expected; sharpens the prediction, limits nothing.
    #[schema(minimum = 1)]
    expected_tokens: Option<u32>,
    /// Where it may run; anywhere when absent.
    placement: Option<PlacementSpec>,
}

/// A task, checked.
pub(crate) struct Task {
    /// Its id, when the caller named one.
    pub(crate) job: Option<JobId>,
    /// What to compute.
    pub(crate) spec: JobSpec,
}

impl TaskRequest {
    /// Checks the fields of a task.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub(crate) fn parse(fields: Fields) -> Result<Task> {
        parse(fields)
    }
}

fn parse(mut fields: Fields) -> Result<Task> {
    fields.check_names("task", &[OWN.as_slice(), PASSED_ON.as_slice()].concat())?;
    let job = named(&mut fields)?;
    let workload = workload(&mut fields)?;
    let model = match fields.get("model_ref") {
        Some(named) if fields.get("model").is_some_and(|other| other != named) => {
            return Err(Error::invalid(
                "model",
                "`model` and `model_ref` say different things; send one of them",
            ));
        }
        Some(_) => model(&mut fields, "model_ref")?,
        None => model(&mut fields, "model")?,
    };
    let max_tokens = max_tokens(&mut fields)?;
    let seed = fields.whole("seed", 0, i64::MAX.unsigned_abs())?;
    let priority = priority(&mut fields)?;
    let deadline_ms = deadline(&mut fields)?;
    let timeouts = Timeouts {
        wall_ms: fields.whole("wall_timeout_ms", 1, MAX_DEADLINE_MS)?,
        idle_ms: fields.whole("idle_timeout_ms", 1, MAX_DEADLINE_MS)?,
    };
    let most = u64::from(u32::MAX);
    let expected_tokens = fields.whole("expected_tokens", 1, most)?;
    let expected_tokens = expected_tokens.and_then(|tokens| u32::try_from(tokens).ok());
    let placement = placement(&mut fields)?;
    check_sampling(&fields)?;
    fields.keep(&PASSED_ON);
    let spec = JobSpec {
        workload,
        model,
        body: fields.into_body()?,
        body_ref: None,
        max_tokens,
        seed,
        seed_drawn: false,
        priority,
        deadline_ms,
        whole: false,
        timeouts,
        expected_tokens,
        placement,
    };
    Ok(Task { job, spec })
}

fn named(fields: &mut Fields) -> Result<Option<JobId>> {
    for name in ["task_id", "job_id", "id"] {
        if let Some(text) = fields.text(name)? {
            let id = text.parse::<JobId>();
            return id
                .map(Some)
                .map_err(|error| Error::invalid(name, error.to_string()));
        }
    }
    Ok(None)
}

/// What kind of work it is, with exactly what that kind needs.
fn workload(fields: &mut Fields) -> Result<Workload> {
    let has_messages = fields.get("messages").is_some();
    let named = fields.text("workload")?;
    let workload = match named.as_deref() {
        Some("chat") => Workload::Chat,
        Some("completion") if has_messages => Workload::Chat,
        Some("completion") => Workload::Completion,
        Some("embedding" | "rerank") => {
            return Err(Error::invalid(
                "workload",
                "`workload` must be chat or completion; embeddings and reranking are not offered yet",
            ));
        }
        Some(_) => {
            return Err(Error::invalid(
                "workload",
                "`workload` must be chat or completion",
            ));
        }
        None if has_messages => Workload::Chat,
        None => Workload::Completion,
    };
    match workload {
        Workload::Chat => {
            check_messages(fields)?;
            if ["prompt", "inputs"]
                .iter()
                .any(|name| fields.get(name).is_some())
            {
                return Err(Error::invalid(
                    "prompt",
                    "a chat has `messages` and no prompt beside them; send one of them",
                ));
            }
        }
        Workload::Completion | Workload::Unknown => prompt(fields)?,
    }
    Ok(workload)
}

fn prompt(fields: &mut Fields) -> Result<()> {
    if let Some(prompt) = fields.text("prompt")? {
        fields.insert("prompt", prompt.into());
        return Ok(());
    }
    match fields.take("inputs") {
        Some(Value::Array(inputs)) => match inputs.as_slice() {
            [Value::String(text)] if !text.is_empty() => {
                fields.insert("prompt", text.as_str().into());
                Ok(())
            }
            _ => Err(Error::invalid(
                "inputs",
                "`inputs` must be a list with one text; send one task for each",
            )),
        },
        Some(other) => Err(wrong("inputs", "a list with one text", &other)),
        None => Err(Error::invalid(
            "messages",
            "`messages` or `prompt` is missing; send one of them",
        )),
    }
}

fn priority(fields: &mut Fields) -> Result<Priority> {
    match fields.text("priority")?.as_deref() {
        None | Some("interactive") => Ok(Priority::Interactive),
        Some("batch") => Ok(Priority::Batch),
        Some(_) => Err(Error::invalid(
            "priority",
            "`priority` must be interactive or batch",
        )),
    }
}

/// Where it may run; whether such places exist, the scheduler knows.
fn placement(fields: &mut Fields) -> Result<Option<Box<PlacementSpec>>> {
    let Some(value) = fields.take("placement") else {
        return Ok(None);
    };
    let Value::Object(named) = &value else {
        return Err(wrong("placement", "an object", &value));
    };
    Fields::of(named.clone()).check_names("placement", &PLACEMENT)?;
    let placement = serde_json::from_value::<PlacementSpec>(value).map_err(|error| {
        Error::invalid(
            "placement",
            format!(
                "`placement` cannot be read: {error}; it has {}",
                PLACEMENT.join(", ")
            ),
        )
    })?;
    if placement.mode == PlacementMode::Unknown {
        return Err(Error::invalid(
            "placement.mode",
            "`placement.mode` must be auto, pin or prefer",
        ));
    }
    let mask = placement.require_device_mask.as_deref();
    if mask.is_some_and(|mask| !mask.split(',').all(|device| device.parse::<u32>().is_ok())) {
        return Err(Error::invalid(
            "placement.require_device_mask",
            "`placement.require_device_mask` must be the numbers of devices, such as 0 or 0,1",
        ));
    }
    // A place that is named and does not count is a mistake, and may cost privacy.
    let names = [
        (
            "pin_pool_id",
            placement.pin_pool_id.is_some(),
            PlacementMode::Pin,
            "pin",
        ),
        (
            "prefer_pools",
            !placement.prefer_pools.is_empty(),
            PlacementMode::Prefer,
            "prefer",
        ),
    ];
    for (name, is_given, mode, named) in names {
        if is_given && placement.mode != mode {
            return Err(Error::invalid(
                "placement.mode",
                format!(
                    "`placement.{name}` counts with `placement.mode` {named} only; set that, or leave it out"
                ),
            ));
        }
    }
    Ok(Some(Box::new(placement)))
}

fn deadline(fields: &mut Fields) -> Result<u64> {
    let is_past = fields
        .get("deadline_ms")
        .and_then(Value::as_f64)
        .is_some_and(|ms| ms <= 0.0);
    if is_past {
        let message = "`deadline_ms` has passed already; give the job some time";
        return Err(Error::new(ErrorCode::DeadlineUnmet, message).about("deadline_ms"));
    }
    let given = fields.whole("deadline_ms", 1, MAX_DEADLINE_MS)?;
    Ok(given.unwrap_or(DEFAULT_DEADLINE_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(value: Value) -> Result<Task> {
        parse(Fields::parse(value.to_string().as_bytes())?)
    }

    fn spec(value: Value) -> JobSpec {
        parsed(value).unwrap().spec
    }

    #[test]
    fn a_prompt_is_a_completion_and_messages_are_a_chat() {
        let completion = spec(json!({"model_ref": "m", "prompt": "hi", "n": 1, "temperature": 0}));
        assert_eq!(completion.workload, Workload::Completion);
        assert_eq!(completion.body.get(), r#"{"prompt":"hi","temperature":0}"#);
        let inputs = spec(json!({"model": "m", "inputs": ["hi"], "temperature": 0}));
        assert_eq!(inputs.digest(), completion.digest());
        let chat = spec(
            json!({"model": "m", "workload": "completion", "messages": [{"role": "user", "content": "hi"}]}),
        );
        assert_eq!(chat.workload, Workload::Chat);
    }

    #[test]
    fn each_bad_field_is_named() {
        let cases = [
            ("task_id", json!("not-a-uuid")),
            ("workload", json!("embedding")),
            ("workload", json!("dance")),
            ("priority", json!("urgent")),
            ("deadline_ms", json!(0)),
            ("deadline_ms", json!(3_600_001)),
            ("max_tokens", json!(-1)),
            ("expected_tokens", json!(0)),
            ("placement", json!("here")),
            ("placement", json!([])),
            (
                "placement.require_device_mask",
                json!({"require_device_mask": "gpu"}),
            ),
            ("placement.mode", json!({"mode": "maybe"})),
            ("placement.mode", json!({"pin_pool_id": "pi"})),
            (
                "placement.mode",
                json!({"mode": "pin", "prefer_pools": ["pi"]}),
            ),
            ("inputs", json!(["a", "b"])),
            ("messages", json!([])),
            ("model", Value::Null),
            ("stream", json!(true)),
        ];
        for (field, value) in cases {
            let mut task = json!({"model": "m"});
            task[field.split('.').next().unwrap()] = value.clone();
            if !["inputs", "messages"].contains(&field) {
                task["prompt"] = "hi".into();
            }
            let error = parsed(task).err().unwrap();
            assert_eq!(error.0.param.as_deref(), Some(field), "{value}");
        }
    }

    #[test]
    fn what_would_be_passed_over_in_silence_is_refused() {
        let misspelt = json!({"model": "m", "prompt": "x", "placement": {"avoid_pool": ["pi"]}});
        let error = parsed(misspelt).err().unwrap();
        assert!(
            error.0.message.contains("`avoid_pools`"),
            "{}",
            error.0.message
        );
        let messages = json!([{"role": "user", "content": "hi"}]);
        let cases = [
            (
                "model",
                json!({"model": "m", "model_ref": "n", "prompt": "x"}),
            ),
            (
                "prompt",
                json!({"model": "m", "messages": messages, "prompt": "x"}),
            ),
        ];
        for (field, task) in cases {
            let error = parsed(task).err().unwrap();
            assert_eq!(error.0.param.as_deref(), Some(field));
        }
    }

    #[test]
    fn a_deadline_that_has_passed_has_its_own_code() {
        let error = parsed(json!({"model": "m", "prompt": "x", "deadline_ms": -5}))
            .err()
            .unwrap();
        assert_eq!(error.0.code, ErrorCode::DeadlineUnmet);
    }
}
