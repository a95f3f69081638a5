use super::*;

pub fn worker(name: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        role: Role::Worker,
        job_uid: "job-uid".to_owned(),
        generation: 1,
        created: None,
        deletion: None,
        disruption: None,
        verdict: None,
        over: false,
        ready: false,
        ready_changed: None,
        scheduled_since: None,
        unschedulable: None,
        container: ContainerFacts::default(),
        memory_limit_bytes: 1024,
        image: "registry.example/zephyr-worker:1".to_owned(),
    }
}
