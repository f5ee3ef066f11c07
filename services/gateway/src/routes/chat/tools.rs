//! Tool calls: repairs what engines get wrong, and puts deltas together.

use orchion_contract::JobId;
use serde_json::{Map, Value, json};

/// The tool calls of one answer so far.
#[derive(Default)]
pub(crate) struct ToolCalls {
    calls: Vec<Value>,
}

impl ToolCalls {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes deltas in, and returns them as every client can read them: each
    /// with an `index`, a new call with an `id` and a `type`, arguments as text.
    pub(crate) fn add(&mut self, job: JobId, deltas: &str) -> Vec<Value> {
        let deltas: Vec<Map<String, Value>> = serde_json::from_str(deltas).unwrap_or_default();
        deltas
            .into_iter()
            .map(|delta| self.add_one(job, delta))
            .collect()
    }

    /// The calls, whole.
    pub(crate) fn into_calls(self) -> Vec<Value> {
        self.calls
    }

    fn add_one(&mut self, job: JobId, mut delta: Map<String, Value>) -> Value {
        let index = self.index_of(&delta);
        delta.insert("index".to_owned(), index.into());
        if let Some(arguments) = delta
            .get_mut("function")
            .and_then(|f| f.get_mut("arguments"))
            && (arguments.is_object() || arguments.is_array())
        {
            *arguments = arguments.to_string().into();
        }
        if index >= self.calls.len() {
            let id = json!(format!("call_{}_{index}", job.uuid().simple()));
            delta.entry("id").or_insert(id);
            delta.insert("type".to_owned(), "function".into());
            let function = json!({"name": "", "arguments": ""});
            self.calls.resize_with(
                index + 1,
                || json!({"id": "", "type": "function", "function": function}),
            );
        }
        let call = &mut self.calls[index];
        if let Some(id) = delta.get("id").filter(|_| call["id"] == "") {
            call["id"] = id.clone();
        }
        for part in ["name", "arguments"] {
            let more = delta
                .get("function")
                .and_then(|f| f.get(part))
                .and_then(Value::as_str);
            let so_far = call["function"][part].as_str().unwrap_or_default();
            call["function"][part] = format!("{so_far}{}", more.unwrap_or_default()).into();
        }
        Value::Object(delta)
    }

    /// Where a delta belongs: its own index, else that of its id; a new id or
    /// a name begins a call, the rest goes on with the last one.
    fn index_of(&self, delta: &Map<String, Value>) -> usize {
        let given = delta.get("index").and_then(Value::as_u64);
        if let Some(index) = given.and_then(|index| usize::try_from(index).ok()) {
            // An engine that skips numbers must not make us fill them.
            return index.min(self.calls.len());
        }
        let id = delta.get("id").filter(|id| !id.is_null());
        let known = id.and_then(|id| self.calls.iter().position(|call| call["id"] == *id));
        let has_name = delta
            .get("function")
            .is_some_and(|f| f.get("name").is_some_and(Value::is_string));
        match known {
            Some(index) => index,
            None if id.is_some() || has_name || self.calls.is_empty() => self.calls.len(),
            None => self.calls.len() - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobId {
        "01900000-0000-7000-8000-000000000001".parse().unwrap()
    }

    #[test]
    fn deltas_without_index_and_type_are_repaired_and_joined() {
        let mut calls = ToolCalls::default();
        let first = calls.add(
            job(),
            r#"[{"id":"a","function":{"name":"f","arguments":"{\"x\""}}]"#,
        );
        assert_eq!(first[0]["index"], 0);
        assert_eq!(first[0]["type"], "function");
        let second = calls.add(job(), r#"[{"function":{"arguments":":1}"}}]"#);
        assert_eq!(second[0]["index"], 0);
        calls.add(
            job(),
            r#"[{"id":"b","function":{"name":"g","arguments":{"y":2}}}]"#,
        );
        let whole = json!([
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{\"y\":2}"}},
        ]);
        assert_eq!(Value::Array(calls.into_calls()), whole);
    }

    #[test]
    fn a_call_without_id_gets_one() {
        let mut calls = ToolCalls::default();
        let first = calls.add(
            job(),
            r#"[{"index":0,"function":{"name":"f","arguments":""}}]"#,
        );
        assert_eq!(first[0]["id"], "call_01900000000070008000000000000001_0");
    }

    #[test]
    fn a_wild_index_fills_no_memory() {
        let mut calls = ToolCalls::default();
        calls.add(job(), r#"[{"index":4000000000,"function":{"name":"f"}}]"#);
        assert_eq!(calls.into_calls().len(), 1);
    }
}
