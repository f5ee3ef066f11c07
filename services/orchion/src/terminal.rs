//! What a person sees: text in colour on a terminal, plain text in a pipe, and
//! a line of status on stderr while something is awaited.

use std::io::{IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use orchion_service::config::variable;
use serde::Serialize;

use crate::exit::{Failure, Result};

/// A heading, a name.
pub(crate) const STRONG: Style = Style::new().bold();
/// What matters less.
pub(crate) const DIM: Style = Style::new().dimmed();
/// It is well.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Look at it.
pub(crate) const CARE: Style = AnsiColor::Yellow.on_default();
/// It is broken.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// Where output goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    /// Documents for programs instead of text for people.
    pub(crate) json: bool,
    /// Whether a person reads stdout.
    pub(crate) is_person: bool,
    /// Whether a person reads stderr.
    pub(crate) sees_status: bool,
    colour: bool,
    error_colour: bool,
}

impl Terminal {
    /// The terminal of this process. `NO_COLOR` switches colour off.
    pub(crate) fn of_process(json: bool) -> Self {
        let wanted = variable("NO_COLOR").is_none() && variable("TERM").as_deref() != Some("dumb");
        let is_person = std::io::stdout().is_terminal() && !json;
        let sees_status = std::io::stderr().is_terminal();
        Self {
            json,
            is_person,
            sees_status,
            colour: wanted && is_person,
            error_colour: wanted && sees_status,
        }
    }

    /// Whether text on stdout has colour.
    pub(crate) fn colour(self) -> bool {
        self.colour
    }

    /// Whether text on stderr has colour.
    pub(crate) fn error_colour(self) -> bool {
        self.error_colour
    }

    /// The same terminal, without status lines if `quiet`.
    pub(crate) fn quiet_if(mut self, quiet: bool) -> Self {
        self.sees_status &= !quiet;
        self
    }

    /// The text in this style, where there is colour.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        paint(self.colour, style, text)
    }

    /// Writes a line to stdout.
    pub(crate) fn line(self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", text.trim_end_matches('\n'))?;
        Ok(())
    }

    /// Writes text to stdout at once, as it is.
    pub(crate) fn text(self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Writes one JSON document to stdout, on one line.
    pub(crate) fn document(self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::from(anyhow::Error::new(error)))?;
        self.text(&format!("{text}\n"))
    }

    /// Writes a remark to stderr. Nobody reading it is no reason to fail.
    pub(crate) fn remark(self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Writes a remark for people: where programs read, errors alone are on stderr.
    pub(crate) fn aside(self, text: &str) {
        if !self.json {
            self.remark(text);
        }
    }

    /// Writes a remark to stderr in the place of a line of status, which is
    /// drawn again below it.
    pub(crate) fn over_status(self, text: &str) {
        let clear = if self.sees_status { START_OF_LINE } else { "" };
        write(&format!("{clear}{text}\n"));
    }

    /// Tells why the command failed.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            self.remark(&failure.to_json().to_string());
        } else {
            let label = paint(self.error_colour, BAD.bold(), "error:");
            self.remark(&format!("{label} {failure}"));
        }
    }
}

/// The text in a style.
pub(crate) fn paint(colour: bool, style: Style, text: &str) -> String {
    if colour {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}

/// One line of status on stderr, while something is awaited. It shows only to a
/// person, and it is gone when the answer comes.
pub(crate) struct Status {
    shows: bool,
    text: String,
    turn: usize,
    drawn: Option<Place>,
}

/// Where the line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On a line of its own.
    Line,
    /// Behind text that stays.
    Behind,
}

const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

impl Status {
    /// An empty line.
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            shows: terminal.sees_status && !terminal.json,
            text: String::new(),
            turn: 0,
            drawn: None,
        }
    }

    /// Says what is awaited, on a line of its own.
    pub(crate) fn set(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.draw(Place::Line);
    }

    /// Whether it is seen.
    pub(crate) fn shows(&self) -> bool {
        self.shows
    }

    /// Says what is awaited; where the line does not show, as an aside.
    pub(crate) fn tell(&mut self, terminal: Terminal, text: impl Into<String>) {
        if self.shows {
            self.set(text);
        } else {
            terminal.aside(&text.into());
        }
    }

    /// Says what is awaited, behind text that was written without a line end.
    pub(crate) fn set_behind(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.draw(Place::Behind);
    }

    /// Shows that time passes.
    pub(crate) fn turn(&mut self) {
        self.turn = (self.turn + 1) % FRAMES.len();
        if let Some(place) = self.drawn {
            self.draw(place);
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        match self.drawn.take() {
            None => {}
            Some(Place::Line) => write(START_OF_LINE),
            Some(Place::Behind) => write(&format!("{RESTORE}{CLEAR_BELOW}")),
        }
    }

    fn draw(&mut self, place: Place) {
        if !self.shows {
            return;
        }
        let start = match (place, self.drawn) {
            (Place::Line, _) => START_OF_LINE.to_owned(),
            (Place::Behind, None) => SAVE.to_owned(),
            (Place::Behind, Some(_)) => format!("{RESTORE}{CLEAR_BELOW}"),
        };
        self.drawn = Some(place);
        let line = format!("{} {}", FRAMES[self.turn], self.text);
        write(&format!("{start}{}", paint(true, DIM, &line)));
    }
}

const START_OF_LINE: &str = "\r\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const SAVE: &str = "\x1b7";
const RESTORE: &str = "\x1b8";

fn write(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes());
    let _ = err.flush();
}

impl Drop for Status {
    fn drop(&mut self) {
        self.clear();
    }
}
