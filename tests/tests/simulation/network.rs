//! Messages in flight: they are late, lost, come twice and in another order, and never through a cut.
//!
//! Any request reaches any controller. An answer that is older than an agent waits for one is none.
//!
//! Never here: what is in a message, but for that one comes from an agent (`agent.rs`) and the other
//! from the controller's own code for agents.

use crate::controller::Done;
use crate::history::History;
use crate::mutants::Mutant;
use straas_controller::parts::{self, Identity};
use straas_converge::Event;
use straas_schemas::enrol::EnrolRequest;
use straas_schemas::heartbeat::Heartbeat;
use straas_schemas::poll::{PollAnswer, PollRequest};
use straas_schemas::report::ReportRequest;
use straas_schemas::{Digest, NodeId};

/// An agent waits so long for an answer: the longest hold of a poll and its slack, in ms.
pub const PATIENCE_MS: i64 = 75_000;

/// What an agent asks.
#[derive(Clone)]
pub enum Ask {
    Enrol(String),
    Poll(PollRequest),
    Reports(ReportRequest),
    Beat(Box<Heartbeat>),
}

/// What it is answered.
#[derive(Clone)]
pub enum Answer {
    Enrolled(u64),
    Polled(Box<PollAnswer>),
    /// Up to this number, of this incarnation.
    Acknowledged(u64, u64),
}

#[derive(Clone)]
pub enum Message {
    /// From the host of this serial number.
    Ask(u64, NodeId, Option<u64>, Ask),
    /// To it, from a controller.
    Answer(u64, usize, Answer),
}

/// One of them, and when it was sent.
#[derive(Clone)]
pub struct Flying(pub i64, pub Message);

impl Message {
    pub const fn host(&self) -> u64 {
        match self {
            Self::Ask(host, ..) | Self::Answer(host, ..) => *host,
        }
    }
}

impl History {
    /// A host says something; it is on its way then.
    pub fn send(&mut self, host: u64, ask: Ask) {
        let Some(agent) = self.agents.get(&host) else { return };
        let message = Message::Ask(host, agent.node.clone(), agent.incarnation, ask);
        self.flying.push(Flying(self.now(), message));
    }

    /// An agent says one of the things that it has to say.
    pub fn talk(&mut self, host: u64, what: usize) {
        let now = self.now();
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let ask = match (agent.incarnation, what) {
            (None, _) => Some(Ask::Enrol(agent.machine.token.clone())),
            (_, 0) => agent.poll().map(Ask::Poll),
            (_, 1) => agent.reports().map(Ask::Reports),
            _ => agent.heartbeat(now).map(|beat| Ask::Beat(Box::new(beat))),
        };
        match (what, ask.is_some()) {
            (1, _) => agent.send = false,
            (2, true) => agent.beat = false,
            _ => {}
        }
        if let Some(ask) = ask {
            self.send(host, ask);
        }
    }

    /// A message arrives; `twice`: it will come again.
    pub fn deliver(&mut self, at: usize, twice: bool, to: usize) {
        if at < self.flying.len() {
            let flying = if twice { self.flying[at].clone() } else { self.flying.swap_remove(at) };
            self.arrives(flying, to);
        }
    }

    /// What was on its way is here, unless a link is cut.
    pub fn arrives(&mut self, Flying(sent, message): Flying, to: usize) {
        let late = self.now() - sent > PATIENCE_MS;
        let of = if let Message::Answer(_, of, _) = &message { *of } else { to };
        if !self.reaches(message.host(), of) {
            return;
        }
        match message {
            // a request to be let in ends with the connection of who asks
            Message::Ask(host, _, None, _) if !self.agents.contains_key(&host) => {}
            Message::Ask(host, node, incarnation, ask) => self.asked(host, node, incarnation, ask, to),
            Message::Answer(host, of, answer) if !late => {
                if !self.has_database(of) {
                    self.told.count("a controller without its database answers");
                }
                self.answered(host, answer);
            }
            Message::Answer(..) => self.told.count("an answer is too late"),
        }
    }

    /// A controller begins to answer.
    fn asked(&mut self, host: u64, node: NodeId, incarnation: Option<u64>, ask: Ask, to: usize) {
        let Some(controller) = self.controllers.get_mut(to).filter(|controller| controller.up) else { return };
        let engine = controller.engine.clone();
        let early = self.site.mutant == Some(Mutant::EarlyAnswer);
        if let (true, Ask::Reports(request), Some(incarnation)) = (early, &ask, incarnation) {
            let seq = request.reports.last().map_or(0, |report| report.seq);
            self.flying
                .push(Flying(self.site.now(), Message::Answer(host, to, Answer::Acknowledged(incarnation, seq))));
        }
        controller.tasks.push(Box::pin(async move {
            let Some(incarnation) = incarnation else {
                let Ask::Enrol(token) = ask else { return Done::Nothing };
                let (hostname, csr_pem) = (node.to_string(), String::new());
                let agent_version = "0.1.0".to_owned();
                let request =
                    EnrolRequest { protocol: straas_schemas::PROTOCOL, token, csr_pem, hostname, agent_version };
                // the key is the host's own
                return match parts::admitted(&engine, &request, &format!("key-{host}")).await {
                    Ok((_, incarnation)) => Done::Answer(host, Answer::Enrolled(incarnation)),
                    Err(_) => Done::Nothing,
                };
            };
            let nothing = || Digest::sha256(&[]);
            let (renew_at_ms, not_after_ms, authority, key) = (i64::MAX, i64::MAX, nothing(), nothing());
            let identity = Identity { id: node, incarnation, renew_at_ms, not_after_ms, authority, key };
            let Ok(identity) = parts::standing(&engine, identity).await else { return Done::Nothing };
            match ask {
                Ask::Enrol(_) => Done::Nothing,
                Ask::Poll(request) => match parts::answered(&engine, &identity, &request).await {
                    Ok(bytes) => {
                        let answer = serde_json::from_slice(&bytes).expect("a poll's answer");
                        Done::Answer(host, Answer::Polled(answer))
                    }
                    Err(_) => Done::Nothing,
                },
                Ask::Reports(request) => match parts::taken(&engine, (&identity.id, incarnation), request).await {
                    Ok(answer) => Done::Answer(host, Answer::Acknowledged(incarnation, answer.acknowledged)),
                    Err(_) => Done::Nothing,
                },
                Ask::Beat(beat) => {
                    let _ = parts::beaten(&engine, (identity.id, incarnation), *beat);
                    Done::Nothing
                }
            }
        }));
    }

    /// An agent hears what it is told.
    fn answered(&mut self, host: u64, answer: Answer) {
        let now = self.now();
        let Some(agent) = self.agents.get_mut(&host) else { return };
        match answer {
            Answer::Enrolled(incarnation) => {
                if agent.incarnation.is_none() {
                    agent.incarnation = Some(incarnation);
                    agent.start(now);
                    let name = agent.label.clone();
                    self.tell(|| format!("{name} is enrolled as incarnation {incarnation}"));
                    self.drain(host);
                }
            }
            Answer::Polled(answer) => {
                let PollAnswer { assignment, commands, cancel, look, .. } = *answer;
                if agent.is_wished(look) {
                    self.hand(host, Event::Look);
                }
                if let Some(assignment) = assignment {
                    self.offered(host, assignment);
                }
                if !commands.is_empty() || !cancel.is_empty() {
                    self.hand(host, Event::Commanded { orders: commands, cancel });
                }
            }
            Answer::Acknowledged(incarnation, seq) => {
                if agent.incarnation == Some(incarnation) {
                    self.check_acknowledged(host, seq);
                    self.hand(host, Event::Acknowledged { seq });
                }
            }
        }
    }

    fn offered(&mut self, host: u64, assignment: straas_schemas::Assignment) {
        let now = self.now();
        let Some(agent) = self.agents.get_mut(&host) else { return };
        let has = agent.written().generation();
        self.check_offered(&self.agents[&host], &assignment);
        let Some(agent) = self.agents.get_mut(&host) else { return };
        if assignment.generation > has {
            let (name, generation) = (agent.label.clone(), assignment.generation);
            let gates: Vec<String> =
                assignment.stages.iter().map(|o| format!("{}: {}", o.stage, crate::story::gate(&o.gate))).collect();
            let made_of = format!("{} {} {}", assignment.version, assignment.config, assignment.scripts);
            let peers = crate::story::peers(&assignment).join(" ");
            self.tell(|| format!("{name} is offered {generation}: {made_of}; {}; of {peers}", gates.join(", ")));
        } else if assignment.generation < has && self.site.mutant == Some(Mutant::OlderGeneration) {
            agent.take_anyway(&assignment, now);
            self.check_generation(host);
            return;
        }
        self.hand(host, Event::Offered(Box::new(assignment)));
    }
}
