//! A connection of an endpoint, and what its application does with it.

use super::program::{Job, Program};
use qsocket_proto::connection::{Connection, ConnectionError, Event};
use qsocket_proto::ids::StreamId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// A connection and what its application does with it.
pub struct Live {
    pub connection: Connection,
    pub programs: BTreeMap<StreamId, Program>,
    /// Streams that this end opens when it may and their time has come, in order.
    jobs: VecDeque<Job>,
    pub established: Option<Instant>,
    /// It ended and the endpoint let go of it.
    pub forgotten: bool,
    /// When the application last looked.
    acted: Option<Instant>,
}

impl Live {
    pub fn new(connection: Connection, jobs: Vec<Job>) -> Self {
        let programs = BTreeMap::new();
        Self { connection, programs, jobs: jobs.into(), established: None, forgotten: false, acted: None }
    }

    /// Whether every job was done: all bytes and the FIN arrived on both sides.
    pub fn is_done(&self) -> bool {
        self.jobs.is_empty() && !self.programs.is_empty() && self.programs.values().all(Program::is_done)
    }

    /// Whether nothing is left to do. True of an end that has had nothing to do yet.
    pub fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.programs.values().all(Program::is_done)
    }

    pub fn error(&self) -> Option<&ConnectionError> {
        self.connection.error()
    }

    /// When the application acts on its own account.
    pub fn due(&self) -> Option<Instant> {
        let programs = self.programs.values().filter_map(Program::due);
        let next = self.next_job().filter(|_| self.connection.error().is_none());
        // A stream that the peer does not allow yet waits for an event, not for the clock.
        programs.chain(next.filter(|at| self.acted.is_none_or(|acted| *at > acted))).min()
    }

    fn next_job(&self) -> Option<Instant> {
        Some(self.established? + self.jobs.front()?.after)
    }

    pub fn work(&mut self, now: Instant, stalled: &BTreeSet<u32>) -> bool {
        let mut established = false;
        self.acted = Some(now);
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Established => {
                    self.established = Some(now);
                    established = true;
                }
                Event::StreamOpened => {
                    while let Some((id, resource)) = self.connection.accept() {
                        self.programs.insert(id, Program::serve(now, &resource));
                    }
                }
                Event::Readable(id) => {
                    if let Some(program) = self.programs.get_mut(&id) {
                        program.can_read = true;
                    }
                }
                Event::Writable(id) => {
                    if let Some(program) = self.programs.get_mut(&id) {
                        program.can_write = true;
                    }
                }
                Event::StreamsAllowed | Event::Distrusted(_) | Event::Closed => {}
            }
        }
        while let Some(job) = self.jobs.front().copied()
            && self.next_job().is_some_and(|at| at <= now)
            && let Ok(Some(id)) = self.connection.open(&job.resource())
        {
            self.jobs.pop_front();
            self.programs.insert(id, Program::start(now, job));
        }
        let is_stalled = stalled.contains(&self.connection.client().serial);
        for (id, program) in &mut self.programs {
            program.run(now, *id, &mut self.connection, is_stalled);
        }
        established
    }
}
