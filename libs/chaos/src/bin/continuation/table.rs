//! What is shown.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program's output is its purpose"
)]

use std::process::ExitCode;

use crate::answer::Answer;
use crate::kind::Kind;

/// Tokens by which an answer that goes on behind its text may differ from the
/// undisturbed one in length, though not in a letter.
const OTHER_TOKENS: u64 = 3;

/// One kind of request on one kind of engine.
pub(crate) struct Row {
    engine: &'static str,
    kind: Kind,
    /// Why the engine does not do such work at all.
    refusal: Option<String>,
    runs: usize,
    /// Answers that ended before their engine died.
    uncut: usize,
    continued: usize,
    replayed: usize,
    restarted: usize,
    verified: usize,
    swallowed: u64,
    equal: usize,
    valid: usize,
    /// Counted as told to be promised, and to the very token.
    counted: usize,
    exact: usize,
    errors: Vec<String>,
}

impl Row {
    pub(crate) fn new(engine: &'static str, kind: Kind) -> Self {
        Self {
            engine,
            kind,
            refusal: None,
            runs: 0,
            uncut: 0,
            continued: 0,
            replayed: 0,
            restarted: 0,
            verified: 0,
            swallowed: 0,
            equal: 0,
            valid: 0,
            counted: 0,
            exact: 0,
            errors: Vec::new(),
        }
    }

    /// The engine does not do such work.
    pub(crate) fn refused(&mut self, why: String) {
        self.refusal = Some(why);
    }

    /// The same answer, undisturbed and with a kill.
    pub(crate) fn add(&mut self, calm: &Answer, hit: Result<Answer, String>) {
        self.runs += 1;
        let hit = match hit {
            Ok(hit) => hit,
            Err(error) => return self.errors.push(error),
        };
        match hit.continued["strategy"].as_str() {
            Some("continue") => self.continued += 1,
            Some("replay") => self.replayed += 1,
            Some("restart") => self.restarted += 1,
            Some(_) | None => self.uncut += 1,
        }
        self.verified += usize::from(hit.continued["verified"] == true);
        self.swallowed += hit.continued["swallowed_tokens"]
            .as_u64()
            .unwrap_or_default();
        let is_equal = is_equal(calm, &hit);
        self.equal += usize::from(is_equal);
        self.valid += usize::from(self.kind.is_valid(&hit));
        // The same text may be cut into other tokens behind a seam, and another
        // text has another length; its prompt is the same.
        let apart = hit.completion_tokens.abs_diff(calm.completion_tokens);
        let same_prompt = hit.prompt_tokens == calm.prompt_tokens;
        let bound = match hit.continued["strategy"] == "continue" {
            true => OTHER_TOKENS,
            false => 0,
        };
        let is_counted = same_prompt && (apart <= bound || !is_equal);
        self.exact += usize::from(same_prompt && apart == 0);
        if !is_counted {
            let counts = |answer: &Answer| (answer.prompt_tokens, answer.completion_tokens);
            let (calm, hit) = (counts(calm), counts(&hit));
            let place = format!("{}, {}", self.engine, self.kind.name());
            eprintln!("{place}: counted {hit:?} (prompt, completion) instead of {calm:?}");
        }
        self.counted += usize::from(is_counted);
    }

    /// No seam: every answer came, is what was asked for and counts right.
    pub(crate) fn is_as_promised(&self) -> bool {
        let is_whole = self.errors.is_empty() && self.restarted == 0;
        self.refusal.is_some() || (is_whole && self.valid == self.runs && self.counted == self.runs)
    }

    fn line(&self) -> String {
        let name = format!("| {} | {} |", self.engine, self.kind.name());
        if self.refusal.is_some() {
            return format!("{name} - | refused at once | - | - | - | - | - |");
        }
        let cut = self.runs - self.uncut - self.errors.len();
        let mut how = Vec::new();
        for (count, word) in [
            (self.continued, "continue"),
            (self.replayed, "replay"),
            (self.restarted, "restart"),
            (self.errors.len(), "error"),
        ] {
            if count > 0 {
                how.push(format!("{word} {count}"));
            }
        }
        let of = |count: usize| format!("{count}/{}", self.runs);
        format!(
            "{name} {cut}/{} | {} | {} | {} | {} | {} | {}, {} exact |",
            self.runs,
            how.join(", "),
            self.verified,
            self.swallowed,
            of(self.equal),
            of(self.valid),
            of(self.counted),
            self.exact
        )
    }
}

/// Whether two answers say the same; ids of calls are never the same twice.
fn is_equal(calm: &Answer, hit: &Answer) -> bool {
    let calls = |answer: &Answer| -> Vec<(String, String)> {
        let calls = answer.calls.iter();
        calls
            .map(|call| (call.name.clone(), call.arguments.clone()))
            .collect()
    };
    calm.text == hit.text && calls(calm) == calls(hit) && calm.finish == hit.finish
}

pub(crate) fn print(rows: &[Row]) {
    println!(
        "\n| engine | request | cut | strategy | verified | swallowed tokens | as undisturbed | valid | usage right |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{}", row.line());
    }
    for row in rows {
        for error in row.errors.iter().chain(&row.refusal) {
            println!("{}, {}: {error}", row.engine, row.kind.name());
        }
    }
}

pub(crate) fn progress(row: &Row) {
    eprintln!("{}", row.line());
}

pub(crate) fn complain(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
