//! Simulates the streams between workers and coordinators. Until a stream breaks, its messages
//! arrive in order and none is lost. When it breaks, messages in transit may arrive in time, late,
//! or never.

use super::world::{Happening, World};
use crate::coordinator::{Event, ToWorker};
use crate::id::SessionId;

/// One session's stream.
pub(super) struct Stream {
    pub(super) epoch: u64,
    pub(super) pod: u64,
    pub(super) incarnation: u64,
    pub(super) is_open: bool,
    /// When the last message arrives, in each direction.
    last_up: u64,
    last_down: u64,
    tail: Tail,
}

/// What happens to messages in transit to the coordinator when a stream breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Flows,
    Late(u64),
    Lost,
}

impl Stream {
    pub(super) fn new(epoch: u64, pod: u64, incarnation: u64) -> Self {
        Self {
            epoch,
            pod,
            incarnation,
            is_open: true,
            last_up: 0,
            last_down: 0,
            tail: Tail::Flows,
        }
    }
}

/// Returns the session through which an event came.
pub(super) fn session_of(event: &Event) -> Option<SessionId> {
    match event {
        Event::Hello { session, .. }
        | Event::Heartbeat { session }
        | Event::Progress { session, .. }
        | Event::Done { session, .. }
        | Event::Failed { session, .. }
        | Event::Draining { session, .. }
        | Event::SessionClosed { session } => Some(*session),
        Event::PodEnded { .. }
        | Event::Durable { .. }
        | Event::StagePublished { .. }
        | Event::FileFinalized { .. }
        | Event::FileLost { .. }
        | Event::ManifestWritten { .. }
        | Event::OutputTaken { .. }
        | Event::EndedByOperator { .. }
        | Event::WorkersKept { .. }
        | Event::Drain { .. }
        | Event::Tick => None,
    }
}

/// Whether a worker may send the event twice. A stream itself never repeats a message.
fn is_report(event: &Event) -> bool {
    matches!(
        event,
        Event::Done { .. }
            | Event::Failed { .. }
            | Event::Progress { .. }
            | Event::Heartbeat { .. }
    )
}

impl World {
    /// A worker sends a message through an open stream.
    pub(super) fn say(&mut self, session: SessionId, event: Event) {
        if self.is_lost_with_its_stream(session) {
            return;
        }
        let latency = self.rng.between(1, 100);
        let Some(stream) = self.streams.get_mut(&session) else {
            return;
        };
        let arrival = (self.now + latency).max(stream.last_up);
        stream.last_up = arrival;
        let epoch = stream.epoch;
        let repeats = self.settings.repeats;
        if is_report(&event) && !self.has_healed() && self.rng.percent(repeats) {
            let delay = self.rng.between(1, 60_000);
            let event = event.clone();
            self.after(delay, Happening::Learns { epoch, event });
        }
        self.after(arrival - self.now, Happening::Learns { epoch, event });
    }

    /// A coordinator sends a message; nothing happens if the stream is broken.
    pub(super) fn send_to_worker(&mut self, session: SessionId, message: ToWorker) {
        let is_open = self
            .streams
            .get(&session)
            .is_some_and(|stream| stream.is_open);
        if !is_open || self.is_lost_with_its_stream(session) {
            return;
        }
        let latency = self.rng.between(1, 100);
        if let Some(stream) = self.streams.get_mut(&session) {
            let arrival = (self.now + latency).max(stream.last_down);
            stream.last_down = arrival;
            self.after(arrival - self.now, Happening::Receives { session, message });
        }
    }

    fn is_lost_with_its_stream(&mut self, session: SessionId) -> bool {
        let is_lost = !self.has_healed() && self.rng.between(0, 999) < self.settings.lost_messages;
        if is_lost {
            self.note(&format!("session {session} breaks with a message"));
            let notice = self.draw_notice();
            self.stream_breaks(session, notice);
        }
        is_lost
    }

    /// Whether the coordinator will notice that a stream is broken, and after how long.
    pub(super) fn draw_notice(&mut self) -> Option<u64> {
        let unnoticed = self.settings.unnoticed;
        if self.rng.percent(unnoticed) {
            return None;
        }
        Some(self.rng.between(0, 3_000))
    }

    /// A stream breaks. The worker notices this at once and reconnects. The coordinator notices it
    /// after the earlier messages, or not at all.
    pub(super) fn stream_breaks(&mut self, session: SessionId, notice: Option<u64>) {
        let may_lose = self.settings.harsh_streams && !self.has_healed();
        let (fate, late) = (self.rng.between(0, 9), self.rng.between(1, 30_000));
        let now = self.now;
        let Some(stream) = self
            .streams
            .get_mut(&session)
            .filter(|stream| stream.is_open)
        else {
            return;
        };
        stream.is_open = false;
        if may_lose {
            stream.tail = match fate {
                0..=2 => Tail::Lost,
                3 | 4 => Tail::Late(now + late),
                _ => Tail::Flows,
            };
        }
        let (epoch, number, incarnation) = (stream.epoch, stream.pod, stream.incarnation);
        if let Some(notice) = notice {
            let arrival = (now + 1 + notice).max(stream.last_up);
            stream.last_up = arrival;
            let event = Event::SessionClosed { session };
            self.after(arrival - now, Happening::Learns { epoch, event });
        }
        let delay = self.rng.between(100, 5_000);
        if let Some(pod) = self.pods.get_mut(&number)
            && pod.session == Some(session)
        {
            pod.session = None;
            let pod = number;
            self.after(delay, Happening::Connects { pod, incarnation });
        }
    }

    /// Whether an arriving message is delayed, or lost, because its stream broke.
    pub(super) fn is_held_up(&mut self, epoch: u64, event: &Event) -> bool {
        let tail = session_of(event).and_then(|session| Some(self.streams.get(&session)?.tail));
        match tail {
            Some(Tail::Lost) => !matches!(event, Event::SessionClosed { .. }),
            Some(Tail::Late(until)) if self.now < until => {
                let event = event.clone();
                self.again_after(until - self.now, Happening::Learns { epoch, event });
                true
            }
            None | Some(Tail::Flows | Tail::Late(_)) => false,
        }
    }
}
