//! Handles one event and returns its effects: calls the function `on_<event>` of each kind of
//! event. Contains no decision.

use crate::coordinator::effect::Effect;
use crate::coordinator::event::Event;
use crate::coordinator::outbox::Outbox;
use crate::coordinator::retry::FailedAttempt;
use crate::coordinator::session::ClaimedIdentity;
use crate::coordinator::state::State;
use crate::id::Timestamp;

/// Handles one event and returns the effects. `now` never decreases from one call to the next.
pub fn step(state: &mut State, event: Event, now: Timestamp) -> Vec<Effect> {
    let mut out = Outbox::at(now);
    let time_passed = matches!(event, Event::Tick);
    match event {
        Event::Hello {
            session,
            worker,
            ordinal,
            slots,
            running,
        } => {
            let claimed = ClaimedIdentity {
                id: worker,
                ordinal,
                slots,
            };
            state.on_hello(&mut out, now, session, claimed, &running);
        }
        Event::Heartbeat { session } => state.on_heartbeat(now, session),
        Event::Progress { session, tasks } => state.on_progress(now, session, &tasks),
        Event::Done { session, tasks } => state.on_done(&mut out, now, session, tasks),
        Event::Failed {
            session,
            task,
            class,
            setback,
            error,
            lost_input,
            log,
        } => {
            let failed = FailedAttempt {
                task,
                class,
                setback,
                error: &error,
                log: &log,
            };
            state.on_failed(&mut out, now, session, failed, lost_input);
        }
        Event::Draining {
            session,
            handed_back,
        } => state.on_draining(&mut out, now, session, &handed_back),
        Event::SessionClosed { session } => state.on_session_closed(&mut out, now, session),
        Event::PodEnded {
            pod_uid,
            cause,
            reason,
        } => state.on_pod_ended(&mut out, now, &pod_uid, cause, &reason),
        Event::Durable { through } => state.on_durable(&mut out, through),
        Event::StagePublished {
            stage,
            version,
            outputs,
        } => state.on_stage_published(&mut out, stage, version, outputs),
        Event::FileFinalized { task } => state.on_file_finalized(&mut out, task),
        Event::FileLost { task } => state.on_file_lost(&mut out, task),
        Event::ManifestWritten { manifest } => state.on_manifest_written(&mut out, manifest),
        Event::OutputTaken { message } => state.on_output_taken(&mut out, message),
        Event::EndedByOperator { reason, message } => {
            state.on_ended_by_operator(&mut out, reason, message);
        }
        Event::WorkersKept { workers } => state.on_workers_kept(workers),
        Event::Drain { drains } => state.drains = drains,
        Event::Tick => state.on_tick(&mut out, now),
    }
    state.dispatch(&mut out, now);
    if time_passed {
        state.speculate(&mut out, now);
    }
    out.into_effects()
}

impl State {
    /// Returns the first effects after a take-over, which request unfinished work of the log again.
    /// Must be called once, after the replayed log is sealed and before the first `step`.
    pub fn start(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut out = Outbox::at(now);
        self.begin_watch(now);
        self.resume(&mut out);
        out.into_effects()
    }
}
