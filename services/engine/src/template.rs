//! Renders a chat into the text the model was trained on, by the template in its file.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value as Json;

/// Used when a file carries no template: the form most small models know.
const CHATML: &str = "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' \
    + message.content + '<|im_end|>\\n' }}{%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/// Why a chat cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template in the file is not one that this engine understands.
    #[error(
        "read the model's chat template: {0}; serve this file with llama-server, or name another with --model"
    )]
    Template(String),
    /// The template refuses these messages.
    #[error("the model's chat template refuses the messages: {0}")]
    Messages(String),
}

/// A compiled chat template.
pub struct Template {
    environment: Environment<'static>,
    start: String,
    end: String,
}

/// What a template gets besides the messages.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Tool descriptions as the client sent them.
    pub tools: Option<Json>,
    /// Variables by name, such as `enable_thinking`.
    pub variables: serde_json::Map<String, Json>,
}

impl Template {
    /// Compiles `source`, or the usual form when the file has none. `start` and `end` are
    /// the texts of the model's document tokens.
    ///
    /// # Errors
    /// [`Error::Template`] when it does not compile.
    pub fn new(source: Option<&str>, start: &str, end: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // Chat templates are written for these two settings.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| Error::Template(error.to_string()))?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned("chat", source.unwrap_or(CHATML).to_owned())
            .map_err(|error| Error::Template(error.to_string()))?;
        Ok(Self {
            environment,
            start: start.into(),
            end: end.into(),
        })
    }

    /// The prompt that asks the model for the next answer to `messages`.
    ///
    /// # Errors
    /// [`Error::Messages`] when the template refuses them.
    pub fn render(&self, messages: &[Json], extras: &Extras) -> Result<String, Error> {
        let refused = |error: minijinja::Error| {
            Error::Messages(
                error
                    .detail()
                    .map_or_else(|| error.to_string(), str::to_owned),
            )
        };
        let template = self.environment.get_template("chat").map_err(refused)?;
        let variables = Value::from(Serde(&extras.variables));
        template
            .render(context! {
                messages => Value::from(Serde(messages)),
                tools => Value::from(Serde(&extras.tools)),
                add_generation_prompt => true,
                bos_token => self.start.as_str(),
                eos_token => self.end.as_str(),
                ..variables
            })
            .map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages() -> Vec<Json> {
        vec![
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": "Hi"}),
        ]
    }

    #[test]
    fn without_a_template_the_usual_form_is_used() {
        let template = Template::new(None, "", "").unwrap();
        assert_eq!(
            template.render(&messages(), &Extras::default()).unwrap(),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_template_of_the_llama_3_kind_renders() {
        let source = "{{- bos_token }}\
            {%- if messages[0]['role'] == 'system' %}\
            {%- set system = messages[0]['content'].strip() %}{%- set messages = messages[1:] %}\
            {%- endif %}\
            {{- '<|start_header_id|>system<|end_header_id|>\n\n' + system + '<|eot_id|>' }}\
            {%- for message in messages %}\
            {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}\
            {%- endfor %}\
            {%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}";
        let template = Template::new(Some(source), "<|begin_of_text|>", "<|eot_id|>").unwrap();
        assert_eq!(
            template.render(&messages(), &Extras::default()).unwrap(),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n"
        );
    }

    #[test]
    fn python_methods_reversed_slices_namespaces_and_variables_work() {
        let source = "{%- set ns = namespace(last=0) %}\
            {%- for message in messages[::-1] %}{%- set ns.last = loop.index0 %}{%- endfor %}\
            {{- ns.last }} {{ messages[0].content.split(' ')[-1].rstrip('.') }} \
            {{- messages[1].content.startswith('H') }} {{ enable_thinking }}";
        let template = Template::new(Some(source), "", "").unwrap();
        let mut extras = Extras::default();
        extras
            .variables
            .insert("enable_thinking".into(), json!(false));
        assert_eq!(
            template.render(&messages(), &extras).unwrap(),
            "1 briefTrue False"
        );
    }

    #[test]
    fn a_template_may_refuse_messages_with_its_own_words() {
        let source = "{{ raise_exception('roles must alternate') }}";
        let template = Template::new(Some(source), "", "").unwrap();
        let refused = template
            .render(&messages(), &Extras::default())
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the model's chat template refuses the messages: roles must alternate"
        );
    }

    #[test]
    fn a_broken_template_is_told_at_load() {
        assert!(matches!(
            Template::new(Some("{% if"), "", ""),
            Err(Error::Template(_))
        ));
    }
}
