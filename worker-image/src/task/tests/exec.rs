//! Tests own code with real processes of Debian's base system: what a command may do, and how it is
//! reported.

use std::collections::BTreeMap;
use std::time::Instant;

use zephyr_engine::pipeline::Exec;

use super::*;

const PART: &str = "s3://out/{shard}.jsonl";

fn command(words: &[&str]) -> Exec {
    Exec {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        slots: 1,
        may_ignore_input: false,
        reuse: false,
    }
}

fn exec(words: &[&str]) -> Step {
    Step::Exec(command(words))
}

fn sh(script: &str) -> Step {
    exec(&["sh", "-c", script])
}

fn that_may_ignore(script: &str) -> Step {
    Step::Exec(Exec {
        may_ignore_input: true,
        ..command(&["sh", "-c", script])
    })
}

/// The numbers below `count`, a line each.
fn numbers(count: u32) -> String {
    let lines: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    lines.join("\n") + "\n"
}

fn over(steps: Vec<Step>, text: &str) -> Job {
    Job::new(steps, &[("a.jsonl", text.as_bytes())], PART)
}

/// The output of steps over one file.
fn output(steps: Vec<Step>, text: &str) -> String {
    over(steps, text).files().remove(0).1
}

/// The failure of a command over three records, without the step and the shard.
fn failure(step: Step) -> (FailureClass, String) {
    let failure = over(vec![step], "1\n2\n3\n").fail();
    let text = failure.error;
    let rest = text.strip_prefix("spec.pipeline.steps[0].exec: stage 1 shard 0: ");
    (failure.class, rest.unwrap_or(&text).to_owned())
}

fn is_running(process: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn records_pass_through_a_command_in_order_and_unchanged() {
    let text = numbers(50_000);
    assert_eq!(output(vec![exec(&["cat"])], &text), text);
    let tricky = "{\"a\":1.10}\n\"\\u0000\\n\\u2028 é\"\n12345678901234567890\n[]\n";
    assert_eq!(output(vec![exec(&["cat"])], tricky), tricky);
    let changed = output(vec![exec(&["sed", "s/^/[/;s/$/]/"])], "1\n2\n");
    assert_eq!(changed, "[1]\n[2]\n");
    // White space and empty lines in the output are treated like those in a file.
    assert_eq!(
        output(vec![sh("cat; printf ' [ 4 ]\\r\\n\\n'")], "1\n"),
        "1\n[4]\n"
    );
}

#[test]
fn steps_run_before_between_and_after_commands_and_a_shuffle_follows() {
    let steps = vec![
        Step::Filter(". >= 2".to_owned()),
        exec(&["sed", "s/$/0/"]),
        Step::Map(". + 1".to_owned()),
        exec(&["sed", "s/.*/[&,&]/"]),
        Step::FlatMap(".[]".to_owned()),
    ];
    assert_eq!(output(steps.clone(), "1\n2\n3\n"), "21\n21\n31\n31\n");
    let mut counted = steps;
    counted.push(Step::Count);
    assert_eq!(output(counted, "1\n2\n3\n"), "4\n");
    let mut job = Job::new(
        vec![Step::Count, exec(&["sed", "s/$/7/"])],
        &[("a.txt", b"x\ny \"q\"\n")],
        PART,
    );
    assert_eq!(job.files()[0].1, "27\n");
    job.pipeline.steps = vec![exec(&["cat"])];
    assert_eq!(job.files()[0].1, "\"x\"\n\"y \\\"q\\\"\"\n");
}

#[test]
fn an_empty_shard_starts_the_command_too() {
    assert_eq!(output(vec![sh("cat; echo 7")], ""), "7\n");
    assert_eq!(output(vec![exec(&["true"])], ""), "");
}

#[test]
fn full_pipes_in_any_direction_block_nobody() {
    let text = numbers(300_000);
    for script in [
        // Writes much before it reads.
        "yes 1 | head -n 1000000; cat >/dev/null",
        // Reads everything before it writes.
        "x=$(cat); printf '%s\\n' \"$x\"",
        // Fills standard error in between.
        "head -c 3000000 /dev/zero | tr '\\0' x >&2; cat; head -c 3000000 /dev/zero | tr '\\0' x >&2",
        // Writes after the end of its input.
        "cat >/dev/null; yes 2 | head -n 1000000",
    ] {
        let lines = output(vec![sh(script)], &text).lines().count();
        assert!(lines == 300_000 || lines == 1_000_000, "{script}: {lines}");
    }
    // A record that becomes much more than a pipe holds, between two slow commands.
    let steps = vec![
        sh("cat"),
        Step::FlatMap("range(400000)".to_owned()),
        sh("cat"),
    ];
    assert_eq!(output(steps, "1\n").lines().count(), 400_000);
}

#[test]
fn a_complete_output_ends_the_command_and_is_success() {
    let take = Step::TakePerShard(2);
    assert_eq!(
        output(vec![sh("yes 5"), take.clone()], &numbers(9)),
        "5\n5\n"
    );
    let steps = vec![sh("trap '' TERM; cat; yes 5"), exec(&["cat"]), take.clone()];
    assert_eq!(output(steps, &numbers(100_000)), "0\n1\n");
    assert_eq!(output(vec![take, exec(&["cat"])], &numbers(9)), "0\n1\n");
}

#[test]
fn windows_before_and_after_commands_are_passed_on_at_the_end_of_the_shard() {
    let window = || Step::Window(2);
    let cat = || exec(&["cat"]);
    for (steps, expected) in [
        (vec![window(), cat()], "[0,1]\n[2,3]\n[4]\n"),
        (vec![cat(), window()], "[0,1]\n[2,3]\n[4]\n"),
        (vec![kept("cat"), window()], "[0,1]\n[2,3]\n[4]\n"),
        (
            vec![window(), kept("cat"), window(), cat()],
            "[[0,1],[2,3]]\n[[4]]\n",
        ),
        // The command is ended, and what was taken before is passed on.
        (vec![cat(), Step::TakePerShard(3), window()], "[0,1]\n[2]\n"),
        (
            vec![sh("yes 7"), Step::TakePerShard(3), window(), cat()],
            "[7,7]\n[7]\n",
        ),
        (vec![Step::TakePerShard(3), window(), cat()], "[0,1]\n[2]\n"),
    ] {
        assert_eq!(output(steps.clone(), &numbers(5)), expected, "{steps:?}");
    }
    assert_eq!(output(vec![cat(), window()], ""), "");
}

#[test]
fn the_end_of_a_command_is_reported_with_its_cause() {
    let (class, text) = failure(sh("cat; echo went wrong >&2; exit 3"));
    assert_eq!(class, FailureClass::Application);
    assert_eq!(
        text,
        "\"sh\" ended with exit code 3; success is 0; its standard error ends with: went wrong"
    );
    let (class, text) = failure(sh("kill -11 $$"));
    assert_eq!(class, FailureClass::Application);
    assert_eq!(text, "\"sh\" was killed by signal 11");
    assert!(
        failure(sh("kill -9 $$"))
            .1
            .contains("spec.workers.resources")
    );
    let (_, text) = failure(sh(
        "head -c 9000 /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; exit 1",
    ));
    assert!(
        text.len() < 4500 && text.contains("ends with: last; before that: xxx"),
        "{text}"
    );
}

#[test]
fn input_that_is_not_read_is_an_error_unless_it_may_be() {
    let text = numbers(1_000_000);
    for script in ["exit 0", "head -n 1", "exec <&-; sleep 0.2"] {
        let failure = over(vec![sh(script)], &text).fail();
        assert_eq!(failure.class, FailureClass::Application);
        assert!(
            failure
                .error
                .contains("spec.pipeline.steps[0].exec.mayIgnoreInput to true"),
            "{script}: {}",
            failure.error
        );
        over(vec![that_may_ignore(script)], &text).run().unwrap();
    }
    assert_eq!(output(vec![that_may_ignore("head -n 1")], &text), "0\n");
    let steps = vec![sh("cat"), that_may_ignore("head -n 2"), exec(&["cat"])];
    assert_eq!(output(steps, &text), "0\n1\n");
    // Few records stay in the pipe.
    assert!(
        failure(sh("exit 0"))
            .1
            .contains("did not read the last 6 bytes")
    );
}

#[test]
fn bad_output_is_reported_with_its_line_and_its_text() {
    let (class, text) = failure(sh("cat; printf 4"));
    assert_eq!(class, FailureClass::Application);
    assert!(
        text.starts_with("the last line of the output of \"sh\", line 4, has no line end (got 4)"),
        "{text}"
    );
    for (script, words) in [
        ("cat; echo oops", "line 4 of the output of \"sh\": "),
        ("echo 1 2; cat", "line 1 of the output of \"sh\": "),
        (
            "echo; printf '\"\\377\"\\n'; cat",
            "line 2 of the output of \"sh\": ",
        ),
    ] {
        let (class, text) = failure(sh(script));
        assert_eq!(class, FailureClass::Deterministic, "{text}");
        assert!(text.starts_with(words) && text.contains("(got "), "{text}");
    }
    let mut job = over(vec![sh("cat; yes 1 | tr -d '\\n' | head -c 100000")], "1\n");
    job.limits.record.bytes = 1000;
    let failed = job.fail();
    assert!(
        failed
            .error
            .contains("line 2 of the output of \"sh\": the line is too long"),
        "{}",
        failed.error
    );
    let step = Step::Map(".a".to_owned());
    let failed = over(vec![sh("echo '{\"a\":1}'; cat"), step], "1\n").fail();
    assert!(
        failed.error.starts_with("spec.pipeline.steps[0].exec: stage 1 shard 0: line 2 of the output: spec.pipeline.steps[1].map: "),
        "{}",
        failed.error
    );
}

#[test]
fn a_command_that_cannot_be_started_is_named_with_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
        path.display().to_string()
    };
    let wrong = file("wrong.py", "#!/usr/bin/python4\n", 0o755);
    let closed = file("closed.sh", "#!/bin/sh\ncat\n", 0o644);
    for (program, words) in [
        (
            "no-such-program",
            "does not exist; a program of the worker's image",
        ),
        (
            "/no/such",
            "does not exist; a program of the worker's image",
        ),
        (
            wrong.as_str(),
            "the program in its first line, after #!, does not exist",
        ),
        (closed.as_str(), "is not executable"),
    ] {
        let (class, text) = failure(exec(&[program]));
        let begin = format!("spec.pipeline.steps[0].exec.command: {program:?} ");
        assert!(text.starts_with(&begin) && text.contains(words), "{text}");
        assert_eq!(class, FailureClass::Deterministic);
    }
}

#[test]
fn a_command_that_hangs_is_stopped_and_its_start_may_take_ten_times_as_long() {
    let mut job = over(vec![sh("read -r x; echo \"$x\"; sleep 1000")], "1\n2\n");
    job.stall_timeout = Duration::from_millis(300);
    let failed = job.fail();
    assert_eq!(failed.class, FailureClass::Application);
    assert!(
        failed
            .error
            .contains("the limit is spec.retries.taskStallTimeout"),
        "{}",
        failed.error
    );
    job.pipeline.steps = vec![sh("sleep 1; cat")];
    assert_eq!(job.files()[0].1, "1\n2\n");
    job.pipeline.steps = vec![sh("sleep 1000")];
    let began = Instant::now();
    let failed = job.fail();
    assert!(
        failed
            .error
            .contains("10 times spec.retries.taskStallTimeout"),
        "{}",
        failed.error
    );
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[test]
fn nothing_that_a_command_starts_outlives_its_task() {
    let detached = "setsid sleep 3600 >/dev/null 2>&1 </dev/null & echo $!; cat >/dev/null";
    let process = output(vec![sh(detached)], "1\n").trim().to_owned();
    assert!(!is_running(&process), "{process}");
    let daemon = "(setsid sh -c 'trap \"\" TERM; echo $$; exec sleep 3600 >/dev/null' 2>/dev/null &); cat >/dev/null; sleep 0.2";
    let process = output(vec![sh(daemon)], "1\n").trim().to_owned();
    assert!(!process.is_empty() && !is_running(&process), "{process}");
    let folder = tempfile::tempdir().unwrap();
    let ids = folder.path().join("ids");
    let forks = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do (sleep 3600 & echo $! >>{0}; wait) & done; sleep 0.3; exit 5",
        ids.display()
    );
    assert!(failure(sh(&forks)).1.contains("exit code 5"));
    let ids = std::fs::read_to_string(ids).unwrap();
    assert!(ids.lines().count() > 0);
    for process in ids.lines() {
        assert!(!is_running(process), "{process}");
    }
}

#[test]
fn a_process_that_keeps_the_output_open_is_waited_for_and_then_an_error() {
    assert_eq!(
        output(vec![sh("cat; (sleep 0.5; echo 9) & exit 0")], "1\n"),
        "1\n9\n"
    );
    let (class, text) = failure(sh("cat; sleep 3600 &"));
    assert_eq!(class, FailureClass::Application);
    assert!(
        text.contains("still had its standard output open after 5 s"),
        "{text}"
    );
}

#[test]
fn what_a_process_that_was_left_behind_writes_does_not_extend_its_time() {
    for script in ["cat; (while sleep 1; do echo 1; done) &", "cat; yes 1 &"] {
        let began = Instant::now();
        let (_, text) = failure(sh(script));
        let is_said = text.contains("still had its standard output open after 5 s");
        assert!(is_said, "{script}: {text}");
        assert!(began.elapsed().as_secs() < 60, "{script}");
    }
}

#[test]
fn all_of_the_input_is_read_even_if_a_command_stops_early() {
    let text = numbers(20_000);
    // The record that fails comes long after the command has ended.
    let fails = |number: u32| Step::Map(format!("if . == {number} then error(\"no\") else . end"));
    let take = Step::TakePerShard(1);
    for _ in 0..5 {
        let early = that_may_ignore("head -n 1");
        let failure = over(vec![fails(19_999), early.clone()], &text).fail();
        assert!(failure.error.contains("line 20000"), "{}", failure.error);
        let failure = over(vec![fails(19_999), sh("cat"), take.clone()], &text).fail();
        assert!(failure.error.contains("line 20000"), "{}", failure.error);
        assert_eq!(output(vec![fails(20_000), early], &text), "0\n");
    }
}

#[test]
fn the_folder_of_a_command_is_removed_whatever_it_made_there() {
    let script = "mkdir -p a/b; echo 1 > a/b/c; ln -s / a/b/root; pwd; chmod 555 a/b a; cat";
    let steps = vec![sh(&format!("({script}) | sed 's/.*/\"&\"/'"))];
    let printed = output(steps, "");
    let folder = printed.trim().trim_matches('"').to_owned();
    assert!(!folder.is_empty());
    assert!(!std::path::Path::new(&folder).exists(), "{folder}");
}

/// What the tasks of a job counted, by name.
fn counters(job: &Job) -> Vec<(String, u64)> {
    let outputs = job.run().unwrap();
    let counted = outputs.iter().flat_map(|(_, output)| output.counters());
    counted
        .map(|(name, count)| (name.to_string(), *count))
        .collect()
}

#[test]
fn what_commands_write_into_their_files_of_counters_is_added_up() {
    let count = |text: &str| sh(&format!("echo '{text}' >>\"$ZEPHYR_COUNTERS\"; cat"));
    let steps = vec![count("{\"rows\":2,\"bad\":0}"), count("{\"rows\":5}")];
    let expected = [("bad".to_owned(), 0), ("rows".to_owned(), 7)];
    assert_eq!(counters(&over(steps, "1\n")), expected);
    assert_eq!(counters(&over(vec![exec(&["cat"])], "1\n")), []);
    // The counters of an empty shard count as well. So do those that a background process writes
    // after its command has ended.
    let late = "(sleep 0.3; echo '{\"late\":1}' >\"$ZEPHYR_COUNTERS\") & cat";
    assert_eq!(
        counters(&over(vec![sh(late)], "")),
        [("late".to_owned(), 1)]
    );
    // A command that is stopped because nothing more is needed has not counted.
    let stopped = sh("echo '{\"a\":' >\"$ZEPHYR_COUNTERS\"; yes 1");
    let steps = vec![stopped, Step::TakePerShard(2)];
    assert_eq!(counters(&over(steps, "1\n")), []);
}

#[test]
fn a_wrong_file_of_counters_fails_the_attempt_with_its_line() {
    let (class, text) = failure(sh("echo '{\"a\":1.5}' >\"$ZEPHYR_COUNTERS\"; cat"));
    assert_eq!(class, FailureClass::Deterministic);
    assert_eq!(
        text,
        "line 1 of the file ZEPHYR_COUNTERS of \"sh\": a is not a count (got 1.5); an integer from 0 to 9007199254740991, without point and exponent"
    );
    let (class, text) = failure(sh("mkfifo \"$ZEPHYR_COUNTERS\"; cat"));
    assert_eq!(class, FailureClass::Deterministic);
    assert!(
        text.contains("is a link, a folder or a pipe; a regular file"),
        "{text}"
    );
    // The failure of the command comes first.
    let (_, text) = failure(sh("echo x >\"$ZEPHYR_COUNTERS\"; cat; exit 2"));
    assert!(text.contains("exit code 2"), "{text}");
}

#[test]
fn a_command_has_its_own_environment_and_folder_and_nothing_else() {
    let show = Step::Exec(Exec {
        env: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
        ..command(&[
            "sh",
            "-c",
            "cat; env | sed 's/.*/\"&\"/'; pwd | sed 's/.*/\"&\"/'; touch x; ls | sed 's/.*/\"&\"/'",
        ])
    });
    let text = output(vec![show], "");
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    let allowed = [
        "\"A",
        "\"PATH",
        "\"PWD",
        "\"OLDPWD",
        "\"SHLVL",
        "\"_",
        "\"ZEPHYR_JOB",
        "\"ZEPHYR_SHARD",
        "\"ZEPHYR_TOTAL",
        "\"ZEPHYR_ATTEMPT",
        "\"ZEPHYR_COUNTERS",
    ];
    for name in &names {
        assert!(allowed.contains(name), "{name}");
    }
    for line in [
        "\"A=b c\"",
        "\"ZEPHYR_JOB=name\"",
        "\"ZEPHYR_SHARD=0\"",
        "\"ZEPHYR_TOTAL=1\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(text.ends_with("\"x\"\n"), "{text}");
    let job = over(vec![exec(&["cat"])], "1\n");
    job.files();
    assert_eq!(std::fs::read_dir(job.folder.path()).unwrap().count(), 0);
}

fn kept(script: &str) -> Step {
    Step::Exec(Exec {
        reuse: true,
        ..command(&["sh", "-c", script])
    })
}

/// A job with a command that is kept, over a file for each text.
fn over_all(steps: Vec<Step>, texts: &[&str]) -> Job {
    let names: Vec<String> = (0..texts.len())
        .map(|index| format!("{index}.jsonl"))
        .collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .map(String::as_str)
        .zip(texts.iter().map(|text| text.as_bytes()))
        .collect();
    Job::new(steps, &files, PART)
}

fn outputs(steps: Vec<Step>, texts: &[&str]) -> Vec<String> {
    let files = over_all(steps, texts).files();
    files.into_iter().map(|(_, text)| text).collect()
}

/// Answers each record with itself and with the number of the process's records so far.
const NUMBERED: &str = "n=0; while IFS= read -r x; do if [ -z \"$x\" ]; then echo; else n=$((n+1)); echo \"[$x,$n]\"; fi; done";

#[test]
fn one_process_serves_all_shards_and_each_record_stays_in_its_shard() {
    let texts = ["1\n2\n", "", "3\n", "", "4\n5\n6\n"];
    let expected = ["[1,1]\n[2,2]\n", "", "[3,3]\n", "", "[4,4]\n[5,5]\n[6,6]\n"];
    assert_eq!(outputs(vec![kept(NUMBERED)], &texts), expected);
    // The shards are large, and output arrives while input is still being written.
    let many = numbers(200_000);
    let cat = Step::Exec(Exec {
        reuse: true,
        ..command(&["cat"])
    });
    let found = outputs(vec![cat.clone()], &[&many, "7\n", &many]);
    assert!(found == [many.as_str(), "7\n", many.as_str()]);
    // There are two kept commands and one command that starts for each shard, with steps between
    // them.
    let steps = vec![
        Step::Filter(". > 1".to_owned()),
        kept(NUMBERED),
        Step::FlatMap(".[]".to_owned()),
        sh("cat; echo 0"),
        cat,
    ];
    let expected = ["2\n1\n0\n", "0\n", "3\n2\n0\n"];
    assert_eq!(outputs(steps, &["1\n2\n", "", "3\n"]), expected);
}

#[test]
fn the_process_of_an_earlier_stage_ends_before_a_later_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let id = folder.path().join("id");
    let first = format!("echo $$ >{}; {NUMBERED}", id.display());
    let then = format!(
        // A zombie has ended, and only its parent has not noticed that yet.
        "if grep -q '^State:.[^ZX]' /proc/$(cat {0})/status 2>/dev/null; then echo 1; exit 1; else echo 0; fi; cat",
        id.display()
    );
    let steps = vec![kept(&first), Step::Count, sh(&then)];
    assert_eq!(outputs(steps, &["1\n", "2\n"]), ["0\n2\n"]);
}

#[test]
fn a_kept_process_ends_with_what_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let id = folder.path().join("id");
    let script = format!("echo $$ >{}; {NUMBERED}", id.display());
    let job = over_all(vec![kept(&script)], &["1\n"]);
    job.files();
    let process = std::fs::read_to_string(id).unwrap();
    assert!(!is_running(process.trim()), "{process}");
    assert_eq!(std::fs::read_dir(job.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_kept_process_that_breaks_its_rules_fails_the_attempt() {
    let loop_with = |answer: &str, record: &str| {
        format!("while IFS= read -r x; do if [ -z \"$x\" ]; then {answer}; else {record}; fi; done")
    };
    let same = "echo \"$x\"";
    for (script, words) in [
        ("exit 0".to_owned(), "exit code 0 before its answer"),
        ("read -r x".to_owned(), "exit code 0 before its answer"),
        (loop_with("exit 0", same), "exit code 0 before its answer"),
        (loop_with("exit 3", same), "ended with exit code 3"),
        (loop_with("kill -9 $$", same), "was killed by signal 9"),
        (
            loop_with("printf 4; exit 0", same),
            "has no line end (got 4)",
        ),
        (
            loop_with("printf '\\n9\\n'", ":"),
            "line 2 of the output of \"sh\" comes after the empty line that ends its answer (got 9)",
        ),
        (
            loop_with("printf '\\n9'", ":"),
            "line 2 of the output of \"sh\" comes after the empty line that ends its answer (got 9)",
        ),
        (
            loop_with("printf '\\n\\n'", ":"),
            "line 2 of the output of \"sh\" comes after the empty line that ends its answer (got )",
        ),
        (
            "echo 1; sleep 1; cat".to_owned(),
            "before it had read anything of the shard",
        ),
        (
            "echo; sleep 1; cat".to_owned(),
            "before it had read anything of the shard",
        ),
        (
            "read -r x; echo; sleep 1; cat".to_owned(),
            "line 1 of the output of \"sh\" is empty, and the shard had not ended",
        ),
        (loop_with("echo", "echo oops"), "line 1 of the output"),
    ] {
        let ended = over(vec![kept(&script)], "1\n2\n3\n").run();
        let text = ended.expect_err(&script).error;
        assert!(text.contains(words), "{script}: {text}");
    }
    let mut job = over(vec![kept(&loop_with(":", same))], "1\n");
    job.stall_timeout = Duration::from_millis(300);
    let failed = job.fail();
    let words = "did not answer to the end of the shard for 0 s, which is spec.retries.taskStallTimeout; it may not have flushed its output";
    assert!(failed.error.contains(words), "{}", failed.error);
}

#[test]
fn a_process_that_ends_between_two_shards_is_replaced_and_one_that_writes_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file").display().to_string();
    let one = |then: &str| {
        format!(
            "while IFS= read -r x; do if [ -z \"$x\" ]; then echo; {then}; else echo \"$x\"; fi; done"
        )
    };
    // The second command holds the attempt until the first one has done what it does.
    let until = |condition: &str| sh(&format!("cat; until {condition}; do sleep 0.01; done"));
    let texts = ["1\n", "2\n", "", "3\n"];
    let ends = kept(&format!("echo $$ >{file}; {}", one("exit 0")));
    let is_gone = format!("[ ! -e /proc/$(cat {file}) ]");
    assert_eq!(outputs(vec![ends, until(&is_gone)], &texts), texts);
    let writes = kept(&one(&format!("sleep 0.1; echo 9; echo >{file}.wrote")));
    let has_written = format!("[ -e {file}.wrote ]");
    let failed = over_all(vec![writes, until(&has_written)], &texts).fail();
    assert_eq!(failed.class, FailureClass::Deterministic);
    let words = "spec.pipeline.steps[0].exec: stage 1 shard 1: \"sh\" wrote to its standard output after its answer to an earlier shard";
    assert!(failed.error.starts_with(words), "{}", failed.error);
}

#[test]
fn a_complete_output_ends_a_kept_process_and_the_next_shard_starts_another() {
    let steps = vec![kept("read -r x; yes \"$x\""), Step::TakePerShard(2)];
    assert_eq!(outputs(steps, &["1\n", "2\n"]), ["1\n1\n", "2\n2\n"]);
}
