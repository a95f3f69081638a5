//! Repeats faults that once made the operator fail in the sweep. The operator handles them now.
//! Each fault is repeated at every request of the kind at which it was found, because the number of
//! the request may have changed.

use jiff::SignedDuration;

use super::faults::{Exchange, Fault, Span};
use super::runs::Known;
use super::sweep::Run;

/// A fault, and its effect before the fix.
struct Case {
    was: &'static str,
    scenario: &'static str,
    /// The request as the journal shows it.
    request: &'static str,
    fault: Fault,
    span: Span,
}

const CASES: [Case; 5] = [
    Case {
        was: "a root that was deleted while reading it live failed was created again, for the same generation",
        scenario: "next-generation",
        request: "get zephyrjobs/count",
        fault: Fault::Status(504),
        span: Span::Once,
    },
    Case {
        was: "a change of replicas that failed ended its own back-off",
        scenario: "next-generation",
        request: "patch statefulsets/count-workers-g2",
        fault: Fault::Status(503),
        span: Span::Seconds(600),
    },
    Case {
        was: "a deletion that the API server put off counted as done, and the job stayed",
        scenario: "ttl",
        request: "delete zephyrjobs/count",
        fault: Fault::Status(409),
        span: Span::Once,
    },
    Case {
        was: "a deletion of a root that the API server put off counted as done, and the root stayed",
        scenario: "finish",
        request: "delete configmaps/count-g1",
        fault: Fault::Status(409),
        span: Span::Once,
    },
    Case {
        was: "a reconcile that waited for a call wrote status late, and the next reconcile wrote it again at once",
        scenario: "next-generation",
        request: "create configmaps/count-g2",
        fault: Fault::Hang,
        span: Span::Once,
    },
];

#[test]
fn an_old_root_that_cannot_be_deleted_delays_nothing() {
    let known = Known::shared();
    let scenario = known.scenario("coordinator-lost");
    let is = |request: &'static str| {
        move |one: &&Exchange| one.signature.to_string() == request && one.nth == 1
    };
    let requests = &known.learned[scenario].requests;
    let deletion = |one: &Exchange| is("delete configmaps/count-g1")(&one);
    let number = requests.iter().position(deletion).unwrap();
    let storm = (number, Fault::Status(503), Span::Seconds(600));
    let run = Run {
        scenario,
        faults: vec![storm],
    };
    let (record, violations) = known.carry_out(&run);
    assert!(violations.is_empty(), "{violations:?}");
    let made = |requests: &[Exchange]| {
        let last = requests
            .iter()
            .find(is("create statefulsets/count-workers-g2"));
        last.map(|one| one.at).unwrap()
    };
    let late = made(&record.exchanges).duration_since(made(requests));
    assert!(late < SignedDuration::from_secs(1), "{late:?} late");
}

#[test]
fn a_released_worker_is_not_a_disruption_while_the_watch_of_replicas_is_silent() {
    let known = Known::shared();
    let scenario = known.scenario("scale");
    let requests = &known.learned[scenario].requests;
    let is_watch = |one: &Exchange| one.signature.to_string() == "watch statefulsets";
    let watch = requests.iter().position(is_watch).unwrap();
    let runs: Vec<_> = (1..12)
        .map(|lines| Run {
            scenario,
            faults: vec![(watch, Fault::Deaf(lines), Span::Once)],
        })
        .collect();
    let failed = known.judge_all(&runs);
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn an_object_that_a_silent_watch_does_not_show_is_created_once() {
    let known = Known::shared();
    let scenario = known.scenario("create");
    let requests = &known.learned[scenario].requests;
    for kind in ["configmaps", "services", "deployments", "statefulsets"] {
        let is_watch = |one: &Exchange| one.signature.to_string() == format!("watch {kind}");
        let watch = requests.iter().position(is_watch).unwrap();
        let run = Run {
            scenario,
            faults: vec![(watch, Fault::Deaf(0), Span::Once)],
        };
        let (record, violations) = known.carry_out(&run);
        assert!(violations.is_empty(), "{kind}: {violations:?}");
        let created = record
            .exchanges
            .iter()
            .filter(|one| one.signature.kind == kind && one.signature.verb.as_str() == "create");
        assert_eq!(created.count(), 1, "{kind}");
    }
}

#[test]
fn a_coordinator_that_was_ready_is_lost_in_time_although_no_status_says_so() {
    let known = Known::shared();
    let scenario = known.scenario("coordinator-lost");
    let requests = &known.learned[scenario].requests;
    let fault = |request: &str, nth: u32, fault: Fault| {
        let is = |one: &Exchange| one.signature.to_string() == request && one.nth == nth;
        let number = requests.iter().position(is);
        let number = number.unwrap_or_else(|| panic!("no {request} any more"));
        (number, fault, Span::Once)
    };
    // The first two faults delay the writes so much that the coordinator has ended when the
    // operator works again.
    let run = Run {
        scenario,
        faults: vec![
            fault("watch zephyrjobs", 1, Fault::Status(503)),
            fault("create statefulsets/count-workers-g1", 1, Fault::TooMany(5)),
            fault("update zephyrjobs/count/status", 3, Fault::CrashBefore),
        ],
    };
    let violations = known.judge(&run);
    assert!(violations.is_empty(), "{violations:?}");
}

#[test]
fn faults_that_are_mended_stay_mended() {
    let known = Known::shared();
    for case in CASES {
        let scenario = known.scenario(case.scenario);
        let requests = known.learned[scenario].requests.iter().enumerate();
        let runs: Vec<_> = requests
            .filter(|(_, one)| one.signature.to_string() == case.request)
            .map(|(number, _)| Run {
                scenario,
                faults: vec![(number, case.fault, case.span)],
            })
            .collect();
        assert!(!runs.is_empty(), "no {} any more", case.request);
        let failed = known.judge_all(&runs);
        assert!(failed.is_empty(), "{}:\n{failed:?}", case.was);
    }
}
