//! Where the pieces of an attempt come from.
//!
//! An engine that begins an answer is simply listened to. Where an answer is
//! taken up, what the engine says goes through a splice, which swallows what was
//! shown already, and a way that does not work gives place to the next one.

use futures_util::future::BoxFuture;
use orchion_contract::job::{JobSpec, Usage};
use orchion_contract::transcript::{Continued, Piece};
use orchion_node_agent_core::{Ladder, Obstacle, Replay, Seam, Way};
use orchion_transcript::Prefix;

use crate::engine::answer::Ending;
use crate::engine::{Answer, Ask, Delivery, EngineAdapter, Error, Rest, Said};

/// An engine that is asked, and the beginning of the answer.
pub(super) struct Source<'a> {
    engine: &'a dyn EngineAdapter,
    spec: &'a JobSpec,
    prefix: &'a Prefix,
    /// What is tried where there is a beginning.
    ladder: Option<Ladder>,
    splice: Splice,
    /// What the engine said, before it is spliced.
    heard: Vec<Piece>,
    state: State<'a>,
    /// Whether what was shown was taken back.
    has_restarted: bool,
}

enum State<'a> {
    /// The engine was asked.
    Opening(BoxFuture<'a, Result<Answer, Error>>),
    /// It answers.
    Open(Box<Answer>),
    /// Nothing comes any more; the engine is free.
    Closed,
}

/// What becomes of what the engine says.
enum Splice {
    /// It is handed on.
    None,
    /// What was shown is swallowed.
    Replay(Box<Replay>),
    /// It goes on behind what was shown.
    Seam(Box<Seam>),
}

/// What the engine did.
pub(super) enum Heard {
    /// It takes the request.
    Opened,
    Said(Said),
    Failed(Error),
}

impl<'a> Source<'a> {
    /// Asks nobody.
    pub(super) fn closed(
        engine: &'a dyn EngineAdapter,
        spec: &'a JobSpec,
        prefix: &'a Prefix,
    ) -> Self {
        Self {
            engine,
            spec,
            prefix,
            ladder: None,
            splice: Splice::None,
            heard: Vec::new(),
            state: State::Closed,
            has_restarted: false,
        }
    }

    /// Asks for the whole answer.
    pub(super) fn begin(mut self, delivery: Delivery) -> Self {
        let ask = Ask {
            delivery,
            ..Ask::whole(self.spec)
        };
        self.state = State::Opening(self.engine.open(ask));
        self
    }

    /// Asks for the answer in the first way that works.
    pub(super) fn take_up(mut self, ladder: Ladder) -> Self {
        self.ladder = Some(ladder);
        self.try_way();
        self
    }

    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// How the answer was taken up, if it was.
    pub(super) fn continued(&self) -> Option<Continued> {
        let mut continued = self.ladder.as_ref()?.step().continued.clone();
        if let Splice::Replay(replay) = &self.splice {
            continued.swallowed_tokens = replay.swallowed();
            continued.verified = replay.is_through();
        }
        Some(continued)
    }

    /// What the caller is told to have used; `new` tokens were pushed.
    pub(super) fn usage(&self, engine: Option<Usage>, new: u64) -> Usage {
        let shown = match self.has_restarted {
            true => 0,
            false => self.prefix.tokens,
        };
        match &self.ladder {
            Some(ladder) => ladder.step().usage(shown, engine, new),
            None => engine.unwrap_or(Usage {
                completion_tokens: shown + new,
                ..Usage::default()
            }),
        }
    }

    /// Whether what was shown must be taken back before what was heard now is
    /// shown; true once.
    pub(super) fn takes_back(&mut self) -> bool {
        let way = self.ladder.as_ref().map(|ladder| ladder.step().way);
        let takes_back = way == Some(Way::Restart) && !self.has_restarted;
        self.has_restarted |= takes_back;
        takes_back
    }

    /// What the engine does next; waits for ever when it is closed. Nothing is
    /// lost when this is dropped before it is done.
    pub(super) async fn next(&mut self, pieces: &mut Vec<Piece>) -> Heard {
        loop {
            let said = match &mut self.state {
                State::Opening(opening) => match opening.await {
                    Ok(answer) => {
                        self.state = State::Open(Box::new(answer));
                        return Heard::Opened;
                    }
                    Err(error) => Err(error),
                },
                State::Open(answer) => match self.splice {
                    Splice::None => answer.next(pieces).await,
                    Splice::Replay(_) | Splice::Seam(_) => {
                        let said = answer.next(&mut self.heard).await;
                        self.spliced(said, pieces)
                    }
                },
                State::Closed => std::future::pending().await,
            };
            match said {
                Ok(said) => return Heard::Said(said),
                Err(error) if self.steps_down(&error) => {}
                Err(error) => return Heard::Failed(error),
            }
        }
    }

    /// Hands on what is new of what was heard.
    fn spliced(
        &mut self,
        said: Result<Said, Error>,
        pieces: &mut Vec<Piece>,
    ) -> Result<Said, Error> {
        let differs = |error: orchion_node_agent_core::Differs| {
            Error::CannotGoOn(format!("{error} when it was asked again"))
        };
        let heard = self.heard.drain(..);
        match &mut self.splice {
            Splice::None => pieces.extend(heard),
            Splice::Replay(replay) => {
                for piece in heard {
                    replay.take(piece, pieces).map_err(differs)?;
                }
                if let Ok(Said::End(_)) = &said {
                    replay.end().map_err(differs)?;
                }
            }
            Splice::Seam(seam) => {
                for piece in heard {
                    if seam.take(piece, pieces) {
                        return Ok(Said::End(Ending {
                            finish_reason: "stop".to_owned(),
                            usage: None,
                        }));
                    }
                }
                if let Ok(Said::End(_)) = &said {
                    seam.end(pieces);
                }
            }
        }
        said
    }

    /// Whether another way is tried now.
    fn steps_down(&mut self, error: &Error) -> bool {
        let obstacle = error.obstacle();
        let Some(ladder) = self
            .ladder
            .as_mut()
            .filter(|_| obstacle != Obstacle::Failed)
        else {
            return false;
        };
        let way = ladder.step().way;
        if !ladder.step_down(obstacle) {
            return false;
        }
        // What the engine says about it may quote the request or the answer.
        tracing::info!(
            engine.kind = %self.engine.kind(),
            obstacle = ?obstacle,
            "an answer cannot be taken up by {way:?}: another way is tried"
        );
        self.try_way();
        true
    }

    /// Asks the engine in the way that the ladder stands at.
    fn try_way(&mut self) {
        let Some(step) = self.ladder.as_ref().map(Ladder::step) else {
            return;
        };
        let whole = Ask::whole(self.spec);
        let rest = Rest {
            prefix: self.prefix,
            behind: step.way,
            max_tokens: step.max_tokens,
            seed: step.seed,
        };
        let rest = Ask::rest(self.spec, rest);
        let again = Ask {
            repeats: true,
            ..whole
        };
        let (ask, splice) = match step.way {
            Way::Ids => (rest, Splice::None),
            Way::Text => (
                rest,
                Splice::Seam(Box::new(Seam::new(self.spec, self.prefix))),
            ),
            Way::Replay => (again, Splice::Replay(Box::new(Replay::new(self.prefix)))),
            Way::Restart => (whole, Splice::None),
        };
        self.heard.clear();
        self.splice = splice;
        self.state = State::Opening(self.engine.open(ask));
    }
}
