//! Causes the faults of pods, streams, coordinators and storage. A run's settings determine which
//! of them happen, and how often.

use super::settings::Nemesis;
use super::truth::Process;
use super::world::{Happening, World};
use crate::coordinator::{Event, PodEndCause};
use crate::id::TaskAttempt;

impl World {
    pub(super) fn fault(&mut self) {
        if self.now >= self.settings.faults_end_ms() {
            return;
        }
        if let Some(nemesis) = self.rng.pick(&self.settings.nemeses) {
            self.strikes(nemesis);
        }
        let delay = self.rng.between(1, 2 * self.settings.fault_every_ms);
        self.after(delay, Happening::Fault);
    }

    fn strikes(&mut self, nemesis: Nemesis) {
        let now = self.now;
        let pods = self.pods.iter().filter(|(_, pod)| pod.spared_until <= now);
        let pods: Vec<u64> = pods.map(|(number, _)| *number).collect();
        let Some(pod) = self.rng.pick(&pods) else {
            return;
        };
        // These faults are rarer, because each of them affects all processes.
        let is_large_fault = self.rng.percent(10);
        match nemesis {
            Nemesis::PodDies => self.pod_dies(pod, 30_000),
            Nemesis::ContainerEnds => self.container_ends(pod),
            Nemesis::StreamBreaks => {
                let session = self.pods.get(&pod).and_then(|pod| pod.session);
                let notice = self.draw_notice();
                if let Some(session) = session {
                    self.note(&format!("session {session} breaks"));
                    self.stream_breaks(session, notice);
                }
            }
            Nemesis::PodStalls => self.pod_stalls(pod),
            Nemesis::PodDrains => self.pod_drains(pod),
            Nemesis::CoordinatorDies => self.coordinator_dies(self.ledger.newest_epoch),
            Nemesis::CoordinatorStalls => {
                let stall = self.rng.between(1_000, 90_000);
                self.coordinator_stalls(stall);
            }
            Nemesis::CoordinatorIsReplacedAlive if is_large_fault => {
                self.coordinator_is_replaced_alive();
            }
            Nemesis::OutputIsLost => self.output_is_lost(),
            Nemesis::StorageIsSlow if is_large_fault => {
                let end = now + self.rng.between(1_000, 60_000);
                self.storage_is_slow_until = end.min(self.settings.faults_end_ms());
                self.note("storage is slow");
            }
            Nemesis::Wave if is_large_fault => self.wave(&pods),
            Nemesis::AllDie if is_large_fault => {
                self.note("all die");
                let pods: Vec<u64> = self.pods.keys().copied().collect();
                for pod in pods {
                    self.pod_dies(pod, 100_000);
                }
            }
            Nemesis::CoordinatorIsReplacedAlive
            | Nemesis::StorageIsSlow
            | Nemesis::Wave
            | Nemesis::AllDie => {}
        }
    }

    fn wave(&mut self, pods: &[u64]) {
        let has_notice = self.rng.percent(50);
        self.note("wave");
        for pod in pods {
            if self.rng.percent(62) {
                if has_notice {
                    self.pod_drains(*pod);
                } else {
                    self.pod_dies(*pod, 30_000);
                }
            }
        }
    }

    fn pod_dies(&mut self, number: u64, away_ms_max: u64) {
        self.note(&format!("pod {number} dies"));
        let notice = self.draw_notice();
        let Some(pod) = self.pods.remove(&number) else {
            return;
        };
        if let Some(session) = pod.session {
            self.stream_breaks(session, notice);
        }
        if self.rng.percent(50) {
            let times = self.rng.between(1, 2);
            self.operator_reports(number, PodEndCause::Disruption, times, 20_000);
        }
        let delay = self.rng.between(1_000, away_ms_max);
        self.after(delay, Happening::PodStarts);
    }

    pub(super) fn pod_is_deleted(&mut self, number: u64, incarnation: u64) {
        let pod = self.pods.get(&number);
        if pod.is_some_and(|pod| pod.incarnation == incarnation) {
            self.pod_dies(number, 30_000);
        }
    }

    /// The operator reports the end of a pod or a container some time later, and perhaps twice. The
    /// report may arrive before or after the break of the stream.
    fn operator_reports(&mut self, number: u64, cause: PodEndCause, times: u64, delay_ms_max: u64) {
        let epoch = self.ledger.newest_epoch;
        for _ in 0..times {
            let delay = self.rng.between(1, delay_ms_max);
            let event = Event::PodEnded {
                pod_uid: format!("pod-{number}"),
                cause,
                reason: "as seen".to_owned(),
            };
            self.after(delay, Happening::Learns { epoch, event });
        }
    }

    fn container_ends(&mut self, number: u64) {
        let is_exact = self.settings.is_exact;
        let notice = self.draw_notice();
        let now = self.now;
        let Some(pod) = self.pods.get_mut(&number).filter(|pod| !pod.is_draining) else {
            return;
        };
        let process: Process = (number, pod.incarnation);
        pod.incarnation += 1;
        pod.running.clear();
        pod.unacknowledged.clear();
        if is_exact {
            pod.spared_until = now + 25_000;
        }
        let (session, incarnation) = (pod.session.take(), pod.incarnation);
        self.note(&format!("the container of pod {number} ends"));
        self.truth.container_ended(process, now);
        if let Some(session) = session {
            self.stream_breaks(session, notice);
        }
        let delay = self.rng.between(500, 10_000);
        let pod = number;
        self.after(delay, Happening::Connects { pod, incarnation });
        let causes = [PodEndCause::Exit, PodEndCause::OutOfMemory];
        let cause = self.rng.pick(&causes).unwrap_or(PodEndCause::Exit);
        if is_exact {
            self.operator_reports(number, cause, 1, 8_000);
        } else if self.rng.percent(70) {
            let times = self.rng.between(1, 2);
            self.operator_reports(number, cause, times, 20_000);
        }
    }

    fn pod_stalls(&mut self, number: u64) {
        let stall = self.rng.between(1_000, 60_000);
        let end = (self.now + stall).min(self.settings.faults_end_ms());
        self.note(&format!("pod {number} stalls until {end}"));
        if let Some(pod) = self.pods.get_mut(&number) {
            pod.stalled_until = end.max(pod.stalled_until);
        }
    }

    fn pod_drains(&mut self, number: u64) {
        let hands_back_all = self.rng.percent(50);
        let notice_ms = self.rng.pick(&[0, 15_000, 30_000]).unwrap_or(0);
        let is_exact = self.settings.is_exact;
        let Some(pod) = self.pods.get_mut(&number).filter(|pod| !pod.is_draining) else {
            return;
        };
        pod.is_draining = true;
        if is_exact {
            pod.spared_until = u64::MAX;
        }
        let (session, incarnation) = (pod.session, pod.incarnation);
        let handed_back: Vec<TaskAttempt> = if hands_back_all {
            std::mem::take(&mut pod.running).into_keys().collect()
        } else {
            Vec::new()
        };
        self.note(&format!("pod {number} drains"));
        if let Some(session) = session {
            self.say(
                session,
                Event::Draining {
                    session,
                    handed_back,
                },
            );
        }
        let pod = number;
        self.after(notice_ms, Happening::PodIsDeleted { pod, incarnation });
    }

    fn output_is_lost(&mut self) {
        let winners = self.ledger.book.winners().iter();
        let shuffled: Vec<TaskAttempt> = winners
            .filter(|(task, _)| !self.settings.is_last_stage(**task))
            .map(|(task, attempt)| TaskAttempt {
                task: *task,
                attempt: *attempt,
            })
            .collect();
        if let Some(lost) = self.rng.pick(&shuffled)
            && self.may_lose(lost, 100)
        {
            self.note(&format!("the output of {lost} is lost"));
            self.storage.remove(lost);
        }
    }

    pub(super) fn may_lose(&mut self, task: TaskAttempt, chance: u64) -> bool {
        if self.has_healed() || !self.rng.percent(chance) {
            return false;
        }
        let losses = self.losses.entry(task.task).or_default();
        *losses += 1;
        *losses <= 3
    }
}
