//! One run: faults by chance, then healing, then the reckoning.

use super::mix::{Fault, Mix};
use super::summary::Summary;
use crate::sim::endpoint::EndpointNode;
use crate::sim::liar::Liar;
use crate::sim::live::Live;
use crate::sim::net::{Kept, Net};
use crate::sim::relay::Numbers;
use crate::sim::{Node, Speed};
use qsocket_proto::connection::{ConnectionError, Side};
use qsocket_proto::endpoint::Handle;
use qsocket_proto::fault_points;
use qsocket_proto::ids::{ConnectionId, PathId, RELAYS, SIXTEEN, TOLERATED};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// Time in which everything must be completed once sixteen relays are well: three times the longest wait of any
/// retry on the way, which is 10 s, and the programs' own pauses.
const COMPLETES: Duration = Duration::from_secs(40);

/// What the pauses of one run take together: with all other faults far below the idle limit, so that silence is never
/// a reason to end.
const MOST_SLEEP: Duration = Duration::from_secs(25);

/// Connections of one client at once, those included that it lost.
const MOST_CONNECTIONS: usize = 3;

/// A connection that a client dialled.
struct Attempt {
    client: usize,
    handle: Handle,
    id: ConnectionId,
    /// How often the server had crashed when it was dialled.
    crashes: u32,
    over: bool,
}

struct Run {
    seed: u64,
    net: Net,
    mix: Rc<RefCell<Mix>>,
    server: Kept<EndpointNode>,
    clients: Vec<Kept<EndpointNode>>,
    attempts: Vec<Attempt>,
    crashes: u32,
    traitors: bool,
    /// The server may have connections that nobody will take up again.
    orphans: bool,
    sleep_left: Duration,
    summary: Summary,
}

pub fn run(seed: u64) -> Summary {
    let mut run = Run::new(seed);
    run.disturb();
    run.heal();
    run.complete();
    run.reckon();
    run.summary
}

impl Run {
    fn new(seed: u64) -> Self {
        let mix = Mix::draw(seed);
        match mix.points {
            Some(points) => fault_points::arm(points),
            None => fault_points::disarm(),
        }
        if std::env::var("QSOCKET_SEED").is_ok() {
            let points = mix.points.map(|_| fault_points::enabled());
            println!("seed {seed}: {mix:?}\nfault points: {points:?}");
        }
        let mut net = Net::tuned(seed, mix.speed, mix.tuning);
        net.world.net.sizes = mix.sizes;
        for (relay, (lies, one_in)) in &mix.liars {
            net.relays[*relay].node.borrow_mut().liar = Some(Liar::new(lies.clone(), *one_in));
        }
        let server = net.server(mix.at, mix.server.clone());
        let clients = (1..=mix.clients)
            .map(|serial| net.client(serial, mix.client.clone(), Numbers::default()))
            .collect();
        let traitors = mix.liars.len() > TOLERATED;
        let mix = Rc::new(RefCell::new(mix));
        let own = Rc::clone(&mix);
        server.node.borrow_mut().own_jobs = Some(Box::new(move || own.borrow_mut().jobs(false)));
        let (attempts, summary) = (Vec::new(), Summary::default());
        Self {
            seed,
            net,
            mix,
            server,
            clients,
            attempts,
            crashes: 0,
            traitors,
            orphans: false,
            sleep_left: MOST_SLEEP,
            summary,
        }
    }

    // ---- phase one: faults ----------------------------------------------------------------------------------

    fn disturb(&mut self) {
        let (faults, steps, pause, at_once) = {
            let mix = self.mix.borrow();
            (mix.faults.clone(), mix.steps, mix.pause, mix.from_the_start)
        };
        if !at_once {
            let settle = self.net.chance(700);
            self.net.run_for(Duration::from_millis(settle.into()));
        }
        (0..self.clients.len()).for_each(|client| self.connect(client));
        if !at_once {
            let open = self.net.chance(1000);
            self.net.run_for(Duration::from_millis(open.into()));
        }
        for _ in 0..steps {
            let fault = faults[self.net.chance(faults.len() as u32) as usize];
            self.fault(fault);
            let wait = self.net.chance(pause as u32 + 1);
            self.net.run_for(Duration::from_millis(wait.into()));
            self.watch();
        }
    }

    fn fault(&mut self, fault: Fault) {
        let relay = self.net.chance(RELAYS as u32) as usize;
        let id = self.net.relays[relay].id;
        let client = self.net.chance(self.clients.len() as u32) as usize;
        match fault {
            Fault::CrashRelay => self.net.crash(relay),
            Fault::RestartRelay => self.net.restart(relay),
            Fault::FreezeRelay => self.net.world.freeze(id),
            Fault::ThawRelay => self.net.world.thaw(id),
            Fault::SlowRelay => {
                let rate = 1 + self.mix.borrow().speed.rate / [2, 10, 100, 1000][self.net.chance(4) as usize];
                let delay = Duration::from_millis(self.net.chance(300).into());
                self.net.world.set_speed(id, Speed { rate, delay });
            }
            Fault::WellRelay => self.net.world.set_speed(id, self.mix.borrow().speed),
            Fault::BreakLink => self.net.world.break_a_link(),
            Fault::CutLink | Fault::StallPipe | Fault::CorruptPipe => {
                let network = &mut self.net.world.net;
                match network.some_end() {
                    Some(end) if fault == Fault::CutLink => network.cut_link(end.link()),
                    Some(end) if fault == Fault::StallPipe => network.stall_pipe(end),
                    Some(end) => network.corrupt_pipe(end),
                    None => {}
                }
            }
            Fault::MendLinks => {
                let links = self.net.world.net.links_of(id);
                links.into_iter().for_each(|link| self.net.world.net.mend_link(link));
            }
            Fault::FreezeServer => self.net.world.freeze(self.server.id),
            Fault::FreezeClient => self.net.world.freeze(self.clients[client].id),
            Fault::ThawEnds => self.thaw_ends(),
            Fault::StopReading => {
                for end in self.ends() {
                    end.node.borrow_mut().stalled = (1..=self.net.chance(3)).collect();
                }
            }
            Fault::ReadOn => self.read_on(),
            Fault::Connect => self.connect(client),
            Fault::CrashServer => {
                self.crashes += 1;
                self.net.world.crash(self.server.id);
                let wait = self.net.chance(300);
                self.net.run_for(Duration::from_millis(wait.into()));
                self.net.world.revive(self.server.id);
                self.net.call(&self.server.clone(), EndpointNode::restart);
            }
            Fault::CrashClient => {
                self.orphans = true;
                let kept = self.clients[client].clone();
                self.attempts.retain(|attempt| attempt.client != client);
                self.net.world.crash(kept.id);
                let wait = self.net.chance(300);
                self.net.run_for(Duration::from_millis(wait.into()));
                self.net.world.revive(kept.id);
                self.net.call(&kept, EndpointNode::restart);
                self.connect(client);
            }
            Fault::Sleep => {
                let span = Duration::from_millis(self.net.chance(20_000).into()).min(self.sleep_left);
                self.sleep_left -= span;
                self.net.run_for(span);
            }
        }
    }

    fn ends(&self) -> Vec<Kept<EndpointNode>> {
        std::iter::once(&self.server).chain(&self.clients).cloned().collect()
    }

    fn thaw_ends(&mut self) {
        self.ends().iter().for_each(|end| self.net.world.thaw(end.id));
    }

    fn read_on(&mut self) {
        for end in self.ends() {
            let stalled = std::mem::take(&mut end.node.borrow_mut().stalled);
            if !stalled.is_empty() {
                self.net.call(&end, Node::timeout);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        let (jobs, at) = {
            let mut mix = self.mix.borrow_mut();
            (mix.jobs(true), mix.at)
        };
        if self.attempts.iter().filter(|attempt| attempt.client == client).count() >= MOST_CONNECTIONS {
            return;
        }
        let kept = self.clients[client].clone();
        let handle = self.net.connect(&kept, at, jobs);
        let id = kept.with(handle, |live| live.connection.id());
        self.attempts.push(Attempt { client, handle, id, crashes: self.crashes, over: false });
    }

    // ---- at any time ----------------------------------------------------------------------------------------

    /// Looks at every connection. One that ended must have a reason, and its client dials again.
    fn watch(&mut self) {
        let mut again = BTreeSet::new();
        for at in 0..self.attempts.len() {
            let Attempt { client, handle, over, .. } = self.attempts[at];
            let Some(error) = self.clients[client].error(handle).filter(|_| !over) else { continue };
            let reason = self.explain(&self.attempts[at], &error);
            self.summary.count(reason, 1);
            self.attempts[at].over = true;
            again.insert(client);
        }
        for client in again {
            self.attempts.retain(|attempt| attempt.client != client || !attempt.over);
            self.connect(client);
        }
    }

    /// Why a connection ended, or the end of the run.
    fn explain(&self, attempt: &Attempt, error: &ConnectionError) -> &'static str {
        let client = &self.clients[attempt.client];
        let established = client.with(attempt.handle, |live| live.established.is_some());
        let crashed = self.crashes > attempt.crashes;
        let at_server = self.at_server(attempt.id, |live| live.error().cloned()).flatten();
        match error {
            ConnectionError::OpenTimeout if !established => "opened too late",
            ConnectionError::Unreachable(_) if !established => "unreachable",
            ConnectionError::Reset if established && crashed => "reset after a crash of the server",
            ConnectionError::Reset if established && at_server == Some(ConnectionError::Unconfirmed) => {
                "reset after the server let go of an unconfirmed connection"
            }
            // A connection without streams says nothing, and so it ends.
            ConnectionError::Idle if client.with(attempt.handle, Live::is_over) => "idle without streams",
            // Ten relays that say so end a connection; that is what they can do.
            ConnectionError::Reset if established && self.traitors => "reset by more than nine liars",
            _ => panic!(
                "seed {}: {error:?} for no reason; established: {established}, the server crashed: {crashed}, \
                 its end: {at_server:?}",
                self.seed
            ),
        }
    }

    /// Looks at the server's end of a connection.
    fn at_server<R>(&self, id: ConnectionId, look: impl FnOnce(&Live) -> R) -> Option<R> {
        let node = self.server.node.borrow();
        node.connections.values().find(|live| live.connection.id() == id).map(look)
    }

    // ---- phase two: sixteen relays are well -----------------------------------------------------------------

    fn heal(&mut self) {
        if !self.points_stay() {
            self.disarm();
        }
        let (liars, speed): (BTreeSet<usize>, _) = {
            let mix = self.mix.borrow();
            (mix.liars.keys().copied().collect(), mix.speed)
        };
        // Who lies is none of the sixteen; if too many do, all are replaced.
        let lying = if self.traitors { BTreeSet::new() } else { liars };
        if self.traitors {
            for relay in &self.net.relays.clone() {
                let liar = relay.node.borrow_mut().liar.take();
                self.summary.count("lies", liar.map_or(0, |liar| liar.told));
                self.net.world.thaw(relay.id);
                self.net.world.crash(relay.id);
            }
            self.summary.count("more than nine liars", 1);
        }
        let sixteen = self.net.some(RELAYS).into_iter().filter(|relay| !lying.contains(relay)).take(SIXTEEN);
        for relay in sixteen.collect::<Vec<_>>() {
            self.net.restart(relay);
            self.make_well(relay, speed);
        }
        self.thaw_ends();
        self.read_on();
    }

    /// Whether fault points are armed even when all is healed.
    fn points_stay(&self) -> bool {
        let mix = self.mix.borrow();
        mix.points.is_some() && mix.points_stay
    }

    /// Ends every fault of a relay and its links, but that it lies or is not there.
    fn make_well(&mut self, relay: usize, speed: Speed) {
        let id = self.net.relays[relay].id;
        self.net.world.thaw(id);
        self.net.world.set_speed(id, speed);
        let links = self.net.world.net.links_of(id);
        links.into_iter().for_each(|link| self.net.world.net.mend_link(link));
    }

    fn disarm(&mut self) {
        if self.mix.borrow().points.is_some() {
            self.summary.hits = fault_points::hits();
            fault_points::disarm();
        }
    }

    fn complete(&mut self) {
        self.until_all_is_done();
        // What was open went on. Opening works again too.
        (0..self.clients.len()).for_each(|client| {
            self.settle(client);
            self.connect(client);
        });
        self.until_all_is_done();
        (0..self.clients.len()).for_each(|client| self.settle(client));
    }

    fn until_all_is_done(&mut self) {
        let completes = COMPLETES * if self.points_stay() { 3 } else { 1 };
        let end = self.net.world.elapsed() + completes;
        loop {
            self.watch();
            let waiting: Vec<_> = self.attempts.iter().filter(|attempt| !self.is_done(attempt)).collect();
            if waiting.is_empty() {
                return;
            }
            if self.net.world.elapsed() >= end {
                let told: Vec<_> = waiting.iter().map(|attempt| self.describe(attempt)).collect();
                panic!("seed {}: not done within {completes:?}:\n{}", self.seed, told.join("\n"));
            }
            self.net.run_for(Duration::from_millis(5));
        }
    }

    /// Both ends did all that they had to.
    fn is_done(&self, attempt: &Attempt) -> bool {
        let over = |live: &Live| live.established.is_some() && live.is_over();
        let here = self.clients[attempt.client].with(attempt.handle, over);
        here && self.at_server(attempt.id, over) == Some(true)
    }

    fn describe(&self, attempt: &Attempt) -> String {
        let show = |live: &Live| {
            let open: Vec<_> = live.programs.iter().filter(|(_, program)| !program.is_done()).collect();
            let stats = live.connection.stats();
            let paths: Vec<_> = stats.paths.iter().map(|path| path.status).collect();
            format!("{:?}, next {:?}, {open:?}, {paths:?}", live.error(), live.connection.poll_timeout())
        };
        let at_client = self.clients[attempt.client].with(attempt.handle, show);
        let at_server = self.at_server(attempt.id, show);
        format!("client: {at_client}\nserver: {at_server:?}")
    }

    /// Counts what a client's connections met, and closes them.
    fn settle(&mut self, client: usize) {
        let kept = self.clients[client].clone();
        let of_client = |attempt: &Attempt| attempt.client == client;
        let (mine, others) = std::mem::take(&mut self.attempts).into_iter().partition(of_client);
        self.attempts = others;
        let mine: Vec<Attempt> = mine;
        for attempt in &mine {
            let here = kept.with(attempt.handle, |live| self.look(live));
            let there = self.at_server(attempt.id, |live| self.look(live)).expect("it is done");
            here.into_iter().chain(there).for_each(|(what, n)| self.summary.count(what, n));
            self.summary.count("connections completed", 1);
        }
        self.net.call(&kept, |node, io| {
            for attempt in &mine {
                let live = node.connections.get_mut(&attempt.handle).expect("it is done");
                live.connection.close(io.now(), 0, "done");
            }
            node.timeout(io);
        });
        self.net.run_for(Duration::from_secs(4));
        for attempt in &mine {
            let ended = self.at_server(attempt.id, |live| live.error().cloned()).flatten();
            let closed = matches!(ended, Some(ConnectionError::ClosedByPeer { code: 0, .. }));
            // CLOSE is said for eight waits and no longer. Where fault points go on losing things, or relays still hold
            // what too many liars made of it, the idle limit is left.
            let may_lose = self.points_stay() || self.traitors;
            assert!(closed || may_lose, "seed {}: {ended:?} instead of a close", self.seed);
            self.orphans |= !closed;
        }
    }

    fn look(&self, live: &Live) -> Vec<(&'static str, u64)> {
        let stats = live.connection.stats();
        let mut forged = 0;
        for path in PathId::all() {
            let count = stats.paths[path.index()].forged;
            let lies = self.mix.borrow().liars.contains_key(&path.index());
            assert!(lies || count == 0, "seed {}: {path:?} is blamed and did nothing", self.seed);
            forged += count;
        }
        vec![
            ("streams completed", live.programs.len() as u64),
            ("blocks", stats.blocks_sent),
            ("stripes sent again", stats.stripes_resent),
            ("data stripes recovered", stats.repairs.total()),
            ("key phases", u64::from(stats.phase) - 1),
            ("payloads that did not open", forged),
        ]
    }

    // ---- the reckoning --------------------------------------------------------------------------------------

    fn reckon(&mut self) {
        self.disarm();
        // What is still on its way arrives, and there is time for what nobody will take up again to be given up.
        let speed = self.mix.borrow().speed;
        (0..RELAYS).for_each(|relay| self.make_well(relay, speed));
        // A relay that returns carries an announcement up to ten seconds late, and an opening without a quorum lasts five more.
        let span = if self.orphans { 80 } else { 20 };
        self.net.run_for(Duration::from_secs(span));
        for end in self.ends() {
            let node = end.node.borrow();
            assert_eq!(node.memory(), 0, "seed {}: something is left", self.seed);
            for live in node.connections.values() {
                self.check_end(live);
            }
        }
        for relay in &self.net.relays {
            let told = relay.node.borrow().liar.as_ref().map_or(0, |liar| liar.told);
            self.summary.count("lies", told);
        }
        self.summary.digest = self.net.world.digest;
    }

    /// How a connection may have ended, at either end.
    fn check_end(&self, live: &Live) {
        let right = match live.error() {
            Some(ConnectionError::ClosedHere | ConnectionError::ClosedByPeer { code: 0, .. }) => true,
            Some(ConnectionError::OpenTimeout | ConnectionError::Unreachable(_)) => true,
            Some(ConnectionError::Reset) => live.connection.side() == Side::Client || self.traitors,
            Some(ConnectionError::Unconfirmed) => live.established.is_none() && live.programs.is_empty(),
            Some(ConnectionError::Idle) => self.orphans || live.is_over(),
            _ => false,
        };
        let (error, seed) = (live.error(), self.seed);
        assert!(right, "seed {seed}: {:?} ended with {error:?}", live.connection.side());
    }
}
