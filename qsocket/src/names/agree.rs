//! Asking all relays one question, and believing what sixteen answer alike.

use super::message::{Answer, NoAnswer, Question};
use crate::endpoint::{Network, Reply};
use hickory_proto::op::ResponseCode;
use qsocket_proto::call::{Service, Status};
use qsocket_proto::ids::{PathId, PathSet, SIXTEEN};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long answers are awaited, hops that are still being built included: below the 5 seconds after which programs that
/// ask the DNS give up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(4);

/// How long further relays are awaited when sixteen have said the same, or cannot any more: what they say changes nothing,
/// but tells who says otherwise.
pub(crate) const GRACE: Duration = Duration::from_millis(200);

/// The id of questions to relays: calls have a number of their own.
const ID: u16 = 0;

/// Whom questions go to: the relays of a network, or what stands for them in a test.
pub(crate) trait Relays: Send + Sync + 'static {
    /// Asks one relay as soon as there is a hop to it, and waits for what it says; `None` if nothing comes.
    fn ask(
        self: Arc<Self>,
        path: PathId,
        service: Service,
        body: Arc<[u8]>,
    ) -> impl Future<Output = Option<Reply>> + Send;
}

impl Relays for Network {
    async fn ask(self: Arc<Self>, path: PathId, service: Service, body: Arc<[u8]>) -> Option<Reply> {
        self.hop_up(path).await;
        self.call(path, service, &body).await
    }
}

/// Asks all relays the same.
pub(crate) fn ask_all<R: Relays>(
    relays: &Arc<R>,
    service: Service,
    body: impl Into<Arc<[u8]>>,
) -> JoinSet<(PathId, Option<Reply>)> {
    let body = body.into();
    let mut asking = JoinSet::new();
    for path in PathId::all() {
        let (relays, body) = (relays.clone(), body.clone());
        asking.spawn(async move { (path, relays.ask(path, service, body).await) });
    }
    asking
}

/// What a relay said where sixteen others agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contrary {
    /// Something else: it lies, or it missed what the owner of the name said.
    Other,
    /// Nothing that answers the question.
    Malformed,
}

impl fmt::Display for Contrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "it lies, or it missed what the owner said",
            Self::Malformed => "what it said is no answer",
        })
    }
}

/// An answer that sixteen relays or more gave alike.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) answer: Answer,
    /// Who gave it.
    pub(crate) relays: PathSet,
    /// Who gave another one.
    pub(crate) contrary: Vec<(PathId, Contrary)>,
}

/// What relays answered where no sixteen gave one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disagreement {
    question: String,
    /// Most frequent first.
    said: Vec<(String, PathSet)>,
    malformed: PathSet,
    silent: PathSet,
}

impl Disagreement {
    /// What was answered, and by which relays; the most frequent first. Those that could not tell are among them.
    pub fn said(&self) -> impl Iterator<Item = (&str, PathSet)> {
        self.said.iter().map(|(text, relays)| (text.as_str(), *relays))
    }

    /// Relays that answered nothing that is an answer.
    pub fn malformed(&self) -> PathSet {
        self.malformed
    }

    /// Relays that said nothing in time.
    pub fn silent(&self) -> PathSet {
        self.silent
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {SIXTEEN} relays answer {} alike: ", self.question)?;
        for (text, relays) in &self.said {
            write!(f, "{}: {text}; ", relays.len())?;
        }
        if !self.malformed.is_empty() {
            write!(f, "{}: no answer that can be read; ", self.malformed.len())?;
        }
        write!(f, "{} silent", self.silent.len())
    }
}

impl std::error::Error for Disagreement {}

/// What one relay answered.
enum Heard {
    Answer(Answer),
    Code(ResponseCode),
    Status(Status),
    Malformed,
    Silent,
}

impl Heard {
    fn new(question: &Question, reply: Option<Reply>) -> Self {
        match reply {
            None => Self::Silent,
            Some((Status::Ok, body)) => match Answer::read(question, ID, &body) {
                Ok(answer) => Self::Answer(answer),
                Err(NoAnswer::Code(code)) => Self::Code(code),
                Err(NoAnswer::Malformed) => Self::Malformed,
            },
            Some((status, _)) => Self::Status(status),
        }
    }
}

/// What was heard so far.
#[derive(Default)]
struct Tally {
    answers: Vec<(Answer, PathSet)>,
    /// Those that could not tell, by what they said.
    failed: Vec<(String, PathSet)>,
    malformed: PathSet,
    heard: PathSet,
}

impl Tally {
    fn note(&mut self, path: PathId, heard: Heard) {
        let failed = match heard {
            Heard::Answer(answer) => {
                self.heard.insert(path);
                match self.answers.iter_mut().find(|(known, _)| *known == answer) {
                    Some((_, relays)) => {
                        relays.insert(path);
                    }
                    None => self.answers.push((answer, [path].into_iter().collect())),
                }
                return;
            }
            Heard::Malformed => {
                self.heard.insert(path);
                self.malformed.insert(path);
                return;
            }
            Heard::Silent => return,
            Heard::Code(code) => code.to_string(),
            Heard::Status(status) => status.to_string(),
        };
        self.heard.insert(path);
        match self.failed.iter_mut().find(|(known, _)| *known == failed) {
            Some((_, relays)) => {
                relays.insert(path);
            }
            None => self.failed.push((failed, [path].into_iter().collect())),
        }
    }

    fn most(&self) -> usize {
        self.answers.iter().map(|(_, relays)| relays.len()).max().unwrap_or(0)
    }

    fn end(mut self, question: &Question) -> Result<Agreed, Disagreement> {
        let believed = self.answers.iter().position(|(_, relays)| relays.len() >= SIXTEEN);
        let Some(believed) = believed else {
            let mut said: Vec<_> =
                self.answers.iter().map(|(answer, relays)| (answer.to_string(), *relays)).collect();
            said.append(&mut self.failed);
            said.sort_by_key(|(_, relays)| std::cmp::Reverse(relays.len()));
            let silent = PathId::all().filter(|path| !self.heard.contains(*path)).collect();
            return Err(Disagreement {
                question: question.to_string(),
                said,
                malformed: self.malformed,
                silent,
            });
        };
        let (answer, relays) = self.answers.swap_remove(believed);
        let others =
            self.answers.iter().flat_map(|(_, relays)| relays.iter()).map(|path| (path, Contrary::Other));
        let malformed = self.malformed.iter().map(|path| (path, Contrary::Malformed));
        let mut contrary: Vec<_> = others.chain(malformed).collect();
        contrary.sort_by_key(|(path, _)| *path);
        Ok(Agreed { answer, relays, contrary })
    }
}

/// Asks all relays, and returns what sixteen of them answer alike.
///
/// # Cancel safety
/// Safe: a dropped question is forgotten.
pub(crate) async fn agree<R: Relays>(relays: &Arc<R>, question: &Question) -> Result<Agreed, Disagreement> {
    let mut tally = Tally::default();
    let Some(body) = question.encode(ID) else { return tally.end(question) };
    let mut asking = ask_all(relays, Service::Resolve, body);
    let mut until = Instant::now() + DEADLINE;
    while let Ok(Some(done)) = timeout_at(until, asking.join_next()).await {
        let Ok((path, reply)) = done else { continue };
        tally.note(path, Heard::new(question, reply));
        let most = tally.most();
        // Nothing changes any more: sixteen agree, or no answer can come to sixteen.
        if most >= SIXTEEN || most + asking.len() < SIXTEEN {
            until = until.min(Instant::now() + GRACE);
        }
    }
    tally.end(question)
}
