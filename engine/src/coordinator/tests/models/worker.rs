//! Model of a worker's process: how `worker-image/src/worker/supervisor.rs` reacts to messages and
//! finished tasks, and when it sends messages. It has one slot; a task takes any time, and always
//! succeeds.

use std::collections::{BTreeMap, BTreeSet};

use super::setting::{Mistake, Setting};
use super::world::{Up, World};
use crate::coordinator::ToWorker;
use crate::id::{SessionId, TaskAttempt};

/// A worker. Its pod is never used again.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub(super) struct Worker {
    pub(super) is_draining: bool,
    pub(super) has_ended: bool,
    /// The newest epoch that it has seen.
    newest: u64,
    /// Its end of a stream.
    pub(super) link: Option<(u64, SessionId)>,
    is_welcomed: bool,
    pub(super) running: BTreeSet<TaskAttempt>,
    /// Finished attempts that are not acknowledged, and whether each was reported in the current
    /// session.
    reports: BTreeMap<TaskAttempt, bool>,
}

impl World {
    /// `Supervisor::open`: a new stream begins with the attempts for which the worker is
    /// responsible.
    pub(super) fn connects(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.reports.values_mut().for_each(|sent| *sent = false);
        worker.is_welcomed = false;
        let held = worker.running.iter().chain(worker.reports.keys());
        let hello = Up::Hello {
            newest: worker.newest,
            running: held.copied().collect(),
        };
        let link = self.opens(number, hello);
        self.workers[number].link = link;
    }

    /// `Supervisor::on_message`.
    pub(super) fn receives(&mut self, number: usize) {
        let Some((epoch, session)) = self.workers[number].link else {
            return;
        };
        let Some(message) = self
            .link_mut(epoch, session)
            .and_then(|link| link.down.pop_front())
        else {
            return;
        };
        let worker = &mut self.workers[number];
        worker.newest = epoch;
        match message {
            ToWorker::Welcome { .. } => {
                worker.is_welcomed = true;
                self.says_reports(number);
            }
            ToWorker::Run(tasks) => {
                if !worker.is_draining {
                    let held: Vec<_> = worker.reports.keys().copied().collect();
                    let new = tasks
                        .iter()
                        .map(|run| run.task)
                        .filter(|task| !held.contains(task));
                    worker.running.extend(new);
                }
            }
            ToWorker::Cancel(tasks) => worker.running.retain(|task| !tasks.contains(task)),
            ToWorker::Ack(tasks) => worker.reports.retain(|task, _| !tasks.contains(task)),
            ToWorker::Shutdown => worker.running.clear(),
        }
    }

    /// `Supervisor::on_slot`: an attempt is done, and its uncompleted upload exists under the final
    /// name.
    pub(super) fn finishes(&mut self, setting: &Setting, number: usize, task: TaskAttempt) {
        self.workers[number].running.remove(&task);
        self.workers[number].reports.insert(task, false);
        self.store.uploads.insert(task);
        if setting.mistake == Some(Mistake::WorkerCompletes) {
            self.store.complete(task);
        }
        self.says_reports(number);
    }

    /// `State::say_reports`.
    fn says_reports(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if !worker.is_welcomed || worker.link.is_none() || worker.is_draining {
            return;
        }
        let unsent = worker.reports.iter_mut().filter(|(_, sent)| !**sent);
        let tasks: Vec<TaskAttempt> = unsent
            .map(|(task, sent)| {
                *sent = true;
                *task
            })
            .collect();
        if !tasks.is_empty() {
            self.says(number, Up::Done(tasks));
        }
    }

    fn says(&mut self, number: usize, message: Up) {
        if let Some((epoch, session)) = self.workers[number].link
            && let Some(link) = self.link_mut(epoch, session)
        {
            link.up.push_back(message);
        }
    }

    /// `Supervisor::drain`: SIGTERM.
    pub(super) fn receives_sigterm(&mut self, number: usize) {
        self.pod_ends.insert(number);
        let worker = &mut self.workers[number];
        let handed_back: Vec<_> = std::mem::take(&mut worker.running).into_iter().collect();
        if !worker.is_welcomed || worker.link.is_none() {
            self.process_ends(number);
            return;
        }
        self.says_reports(number);
        self.workers[number].is_draining = true;
        self.says(number, Up::Draining(handed_back));
        self.says(number, Up::Bye);
    }

    /// The process ends by itself after waiting for any time, or is killed.
    pub(super) fn process_ends(&mut self, number: usize) {
        if let Some((epoch, session)) = self.workers[number].link
            && let Some(link) = self.link_mut(epoch, session)
        {
            link.breaks();
        }
        self.workers[number] = Worker {
            has_ended: true,
            ..Worker::default()
        };
    }

    /// `FromSession::Over`: its stream is gone.
    pub(super) fn loses_its_stream(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        worker.link = None;
        worker.is_welcomed = false;
        if worker.is_draining {
            self.process_ends(number);
        }
    }
}
