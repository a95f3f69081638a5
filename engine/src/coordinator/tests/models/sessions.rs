//! Model of a coordinator's inputs: streams that open, deliver messages and end, the operator's
//! reports, and silence. It models `worker-image/src/coordinator/sessions.rs` (messages of a stream
//! become events, `Bye` ends it) and `operators.rs`.

use super::coordinator::SILENCE_MS;
use super::setting::{Setting, output};
use super::world::{Link, Up, World};
use crate::coordinator::record::TaskOutput;
use crate::coordinator::{Event, PodEndCause};
use crate::id::{SessionId, TaskAttempt, WorkerId};

impl World {
    /// Opens a stream to the newest coordinator.
    pub(super) fn opens(&mut self, worker: usize, hello: Up) -> Option<(u64, SessionId)> {
        let epoch = self.newest_epoch;
        let coordinator = self.coordinator_mut(epoch)?;
        let session = SessionId(coordinator.next_session);
        coordinator.next_session += 1;
        self.links.push(Link::new(worker, epoch, session, hello));
        self.links.sort_by_key(|link| (link.epoch, link.session));
        Some((epoch, session))
    }

    /// Reads the next message of a stream.
    pub(super) fn reads(&mut self, setting: &Setting, epoch: u64, session: SessionId) {
        let Some(link) = self.link_mut(epoch, session) else {
            return;
        };
        let worker = link.worker;
        let Some(sent) = link.up.pop_front() else {
            return;
        };
        match sent {
            Up::Hello { newest, .. } if newest > epoch => self.cuts(epoch, session),
            Up::Hello { running, .. } => {
                let hello = Event::Hello {
                    session,
                    worker: identity(worker),
                    ordinal: u32::try_from(worker).ok(),
                    slots: 1,
                    running,
                };
                self.takes_in(setting, epoch, hello);
            }
            Up::Done(tasks) => {
                let tasks: Vec<(TaskAttempt, TaskOutput)> =
                    tasks.into_iter().map(|task| (task, output(task))).collect();
                self.takes_in(setting, epoch, Event::Done { session, tasks });
            }
            Up::Draining(handed_back) => {
                self.takes_in(
                    setting,
                    epoch,
                    Event::Draining {
                        session,
                        handed_back,
                    },
                );
            }
            Up::Bye => self.stream_ends(setting, epoch, session),
        }
    }

    /// The coordinator learns that a stream has ended.
    pub(super) fn stream_ends(&mut self, setting: &Setting, epoch: u64, session: SessionId) {
        self.takes_in(setting, epoch, Event::SessionClosed { session });
        self.cuts(epoch, session);
    }

    /// The operator reports that a worker's pod is disrupted.
    pub(super) fn pod_end_reported(&mut self, setting: &Setting, worker: usize) {
        self.pod_ends.remove(&worker);
        let ended = Event::PodEnded {
            pod_uid: identity(worker).pod_uid().to_owned(),
            cause: PodEndCause::Disruption,
            reason: String::new(),
        };
        self.takes_in(setting, self.newest_epoch, ended);
    }

    /// One worker is silent for so long that it counts as lost. Messages of all others arrive.
    pub(super) fn falls_silent(&mut self, setting: &Setting, worker: usize) {
        self.now += SILENCE_MS;
        let epoch = self.newest_epoch;
        let others = self
            .links
            .iter()
            .filter(|link| link.epoch == epoch && link.worker != worker);
        let others: Vec<SessionId> = others.map(|link| link.session).collect();
        for session in others {
            self.takes_in(setting, epoch, Event::Heartbeat { session });
        }
        self.takes_in(setting, epoch, Event::Tick);
    }

    /// Whether a coordinator counts a worker as present.
    pub(super) fn knows(&self, epoch: u64, worker: usize) -> bool {
        let known = self.coordinator(epoch);
        known.is_some_and(|known| known.state.pods.contains_key(identity(worker).pod_uid()))
    }
}

fn identity(worker: usize) -> WorkerId {
    WorkerId::parse(&format!("pod-{worker}"), 1).unwrap()
}
