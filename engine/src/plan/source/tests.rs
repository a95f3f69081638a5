//! Tests of the shards of files: cuts, combined files, limits, and default numbers of shards.

use proptest::prelude::*;

use super::*;
use crate::pipeline::{GroupBy, Sink, Source, Tables, Values};
use crate::plan::plan;

const MIB: u64 = 1 << 20;

fn pipeline(steps: Vec<Step>) -> Pipeline {
    Pipeline {
        source: Source::Files { empty_ok: true },
        steps,
        sink: Sink {
            format: Format::Jsonl,
        },
        values: Values::new(),
        tables: Tables::new(),
        on_errors: crate::pipeline::OnErrors::new(),
    }
}

fn group_by(shards: Option<u32>) -> Step {
    Step::GroupBy(GroupBy {
        key: ".k".to_owned(),
        aggregates: Vec::new(),
        shards,
        order: None,
    })
}

fn deduplicate(shards: Option<u32>) -> Step {
    Step::Deduplicate {
        key: ".k".to_owned(),
        shards,
    }
}

fn plain(bytes: u64) -> ListedFile {
    ListedFile {
        bytes,
        name_bytes: 20,
        format: Format::Jsonl,
        is_compressed: false,
        cuts: Cuts::Anywhere,
        is_pinned: true,
    }
}

fn gzip(bytes: u64) -> ListedFile {
    ListedFile {
        is_compressed: true,
        cuts: Cuts::Nowhere,
        ..plain(bytes)
    }
}

fn splitting(split_bytes: u64) -> Sharding {
    Sharding {
        split_bytes: Some(split_bytes),
        ..Sharding::default()
    }
}

fn combining(combine_bytes: u64) -> Sharding {
    Sharding {
        combine_bytes,
        ..Sharding::default()
    }
}

/// The parts of each shard: file, from, to.
fn parts(files: &[ListedFile], sharding: Sharding) -> Vec<Vec<(u32, u64, u64)>> {
    let (source, parts) = plan_source(&pipeline(vec![]), files, sharding).unwrap();
    let sizes: Vec<u64> = files.iter().map(|file| file.bytes).collect();
    if parts.is_empty() {
        assert_eq!(
            source,
            PlannedSource::from(u32::try_from(files.len()).unwrap())
        );
        return (0..)
            .zip(sizes)
            .map(|(file, size)| vec![(file, 0, size)])
            .collect();
    }
    check_parts(&parts, &sizes).unwrap();
    assert_eq!(source.shards as usize, parts.len());
    assert!(source.parts.is_some());
    let numbers = |part: &FilePart| (part.file, part.from, part.to);
    let shard = |shard: &Vec<FilePart>| shard.iter().map(numbers).collect();
    parts.iter().map(shard).collect()
}

#[test]
fn a_file_above_the_size_is_cut_into_equal_parts_and_one_at_it_is_not() {
    assert_eq!(
        parts(&[plain(10), plain(11), plain(0)], splitting(10)),
        [
            vec![(0, 0, 10)],
            vec![(1, 0, 5)],
            vec![(1, 5, 11)],
            vec![(2, 0, 0)]
        ]
    );
    assert_eq!(
        parts(&[plain(7)], splitting(3)),
        [[(0, 0, 2)], [(0, 2, 4)], [(0, 4, 7)]]
    );
    let mib = 256 * MIB;
    assert_eq!(parts(&[plain(mib)], Sharding::default()).len(), 1);
    assert_eq!(
        parts(&[plain(mib + 2)], Sharding::default()),
        [[(0, 0, mib / 2 + 1)], [(0, mib / 2 + 1, mib + 2)]]
    );
    assert_eq!(parts(&[plain(u64::MAX)], splitting(u64::MAX / 2)).len(), 3);
}

#[test]
fn a_file_with_borders_is_cut_at_the_first_border_after_each_equal_cut() {
    let file = |borders: &[u64]| ListedFile {
        cuts: Cuts::At(borders.to_vec()),
        ..gzip(100)
    };
    let cuts = |borders: &[u64], split_bytes| -> Vec<u64> {
        let parts = parts(&[file(borders)], splitting(split_bytes));
        parts[1..].iter().map(|shard| shard[0].1).collect()
    };
    assert_eq!(cuts(&[10, 20, 30, 40, 60, 70, 90], 34), [40, 70]);
    assert_eq!(cuts(&[10, 90], 25), [10, 90]);
    assert_eq!(cuts(&[5, 80], 50), [80]);
    assert_eq!(cuts(&[5, 10, 15, 20], 34), Vec::<u64>::new());
    assert_eq!(cuts(&[], 1), Vec::<u64>::new());
    assert_eq!(cuts(&[7], 100), Vec::<u64>::new());
}

#[test]
fn only_a_compressed_file_that_would_be_split_is_looked_into() {
    let looked = |steps: Vec<Step>, sharding: Sharding, dead_letter: bool| {
        let mut pipeline = pipeline(steps);
        if dead_letter {
            let on_error = crate::pipeline::OnError {
                dead_letter: Some("s3://o/{shard}".to_owned()),
                max_skipped: None,
                max_skipped_per_million: None,
                shows_messages: true,
            };
            pipeline.on_errors.insert(Origin::Source, on_error);
        }
        let unknown = ListedFile {
            is_pinned: false,
            ..gzip(1000 * MIB)
        };
        let files = [plain(1000 * MIB), gzip(257 * MIB), gzip(256 * MIB), unknown];
        files_to_look_into(&pipeline, &files, sharding)
    };
    let default = Sharding::default();
    assert_eq!(looked(vec![], default, false), [1]);
    assert_eq!(looked(vec![], splitting(MIB), false), [1, 2]);
    assert_eq!(looked(vec![], splitting(0), false), Vec::<usize>::new());
    let take = vec![Step::TakePerShard(1)];
    assert_eq!(looked(take.clone(), default, false), Vec::<usize>::new());
    assert_eq!(looked(take, splitting(MIB), false), [1, 2]);
    assert_eq!(looked(vec![], default, true), Vec::<usize>::new());
    assert_eq!(looked(vec![], splitting(MIB), true), [1, 2]);
}

#[test]
fn neither_zero_nor_a_compressed_file_nor_one_without_a_version_is_split() {
    let unknown = ListedFile {
        is_pinned: false,
        ..plain(100)
    };
    for (file, sharding) in [
        (plain(1 << 40), splitting(0)),
        (gzip(100), splitting(1)),
        (unknown, splitting(1)),
    ] {
        let bytes = file.bytes;
        assert_eq!(parts(&[file], sharding), [[(0, 0, bytes)]]);
    }
}

#[test]
fn no_default_splits_what_a_step_sees_as_a_whole_or_a_single_output() {
    let files = [plain(1 << 30)];
    let single = Sharding {
        has_single_output: true,
        ..Sharding::default()
    };
    let take = Step::TakePerShard(1);
    for (steps, sharding, shards) in [
        (vec![], Sharding::default(), 4),
        (vec![take.clone()], Sharding::default(), 1),
        (vec![take.clone(), Step::Count], Sharding::default(), 1),
        (vec![Step::Count, take.clone()], Sharding::default(), 4),
        (vec![take], splitting(1 << 29), 2),
        (vec![Step::Filter(".a".to_owned())], single, 1),
        (vec![Step::Count], single, 4),
        (
            vec![],
            Sharding {
                split_bytes: Some(1 << 29),
                ..single
            },
            2,
        ),
    ] {
        let (source, _) = plan_source(&pipeline(steps.clone()), &files, sharding).unwrap();
        assert_eq!(source.shards, shards, "{steps:?} {sharding:?}");
    }
}

#[test]
fn neighbours_of_one_kind_are_combined_up_to_the_size_and_order_is_kept() {
    let text = ListedFile {
        format: Format::Text,
        ..plain(1)
    };
    assert_eq!(
        parts(
            &[
                plain(4),
                plain(0),
                plain(6),
                plain(1),
                gzip(1),
                gzip(1),
                text,
                plain(11),
                plain(3)
            ],
            combining(10)
        ),
        [
            vec![(0, 0, 4), (1, 0, 0), (2, 0, 6)],
            vec![(3, 0, 1)],
            vec![(4, 0, 1), (5, 0, 1)],
            vec![(6, 0, 1)],
            vec![(7, 0, 11)],
            vec![(8, 0, 3)],
        ]
    );
    let both = Sharding {
        split_bytes: Some(4),
        combine_bytes: 100,
        has_single_output: false,
    };
    assert_eq!(
        parts(&[plain(1), plain(5), plain(2), plain(3)], both),
        [
            vec![(0, 0, 1)],
            vec![(1, 0, 2)],
            vec![(1, 2, 5)],
            vec![(2, 0, 2), (3, 0, 3)]
        ],
        "a file that is split is never combined"
    );
    let many = vec![plain(0); MAX_FILES_OF_A_SHARD + 1];
    let shards = parts(&many, combining(1));
    assert_eq!(shards.len(), 2);
    assert_eq!(shards[0].len(), MAX_FILES_OF_A_SHARD);
    let long = ListedFile {
        name_bytes: MAX_NAME_BYTES / 2,
        ..plain(0)
    };
    let shards = parts(&vec![long; 5], combining(1));
    let lengths: Vec<usize> = shards.iter().map(Vec::len).collect();
    assert_eq!(
        lengths,
        [2, 2, 1],
        "the names of a shard fit into a message"
    );
}

#[test]
fn only_shards_that_remain_after_combining_count() {
    let mut files = vec![plain(1); MAX_SOURCE_SHARDS - 10];
    files.push(plain(50_000));
    let sharding = Sharding {
        combine_bytes: 1000,
        ..splitting(1)
    };
    let shards = parts(&files, sharding).len();
    assert_eq!(shards, 50_000 + (MAX_SOURCE_SHARDS - 10).div_ceil(1000));
    let error = plan_source(&pipeline(vec![]), &files, splitting(1)).unwrap_err();
    assert!(error.to_string().contains("got 149990 shards"), "{error}");
}

#[test]
fn too_many_shards_are_refused_with_a_sentence_and_the_default_makes_fewer() {
    let files = [plain(100_001)];
    assert_eq!(
        parts(&[plain(100_000)], splitting(1)).len(),
        MAX_SOURCE_SHARDS
    );
    let error = plan_source(&pipeline(vec![]), &files, splitting(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.pipeline.source.files.splitBytes: makes too many shards of the input (got 100001 shards with 1 bytes); at most 100000 are allowed, set a larger number of bytes, or 0 to split no file"
    );
    let most = vec![plain(DEFAULT_SPLIT_BYTES * 3); MAX_SOURCE_SHARDS / 2];
    assert_eq!(parts(&most, Sharding::default()).len(), MAX_SOURCE_SHARDS);
    let most = vec![plain(u64::MAX); MAX_SOURCE_SHARDS];
    assert_eq!(parts(&most, Sharding::default()).len(), MAX_SOURCE_SHARDS);
}

fn shuffle_shards(steps: Vec<Step>, files: &[ListedFile], sharding: Sharding) -> Vec<u32> {
    let pipeline = pipeline(steps);
    let (source, _) = plan_source(&pipeline, files, sharding).unwrap();
    let stages = plan(&pipeline, source).stages;
    stages[1..].iter().map(|stage| stage.shards).collect()
}

#[test]
fn the_first_shuffle_has_a_shard_for_each_128_mib_of_input() {
    let none = Sharding::default();
    for (files, expected) in [
        (vec![], 1),
        (vec![plain(0); 7], 1),
        (vec![plain(1); 300], 1),
        (vec![plain(128 * MIB)], 1),
        (vec![plain(128 * MIB), plain(1)], 2),
        (vec![gzip(128 * MIB)], 4),
        (vec![gzip(1), plain(128 * MIB - 3)], 2),
        (vec![plain(1 << 50)], 256),
        (vec![gzip(u64::MAX), plain(u64::MAX)], 256),
    ] {
        let found = shuffle_shards(vec![group_by(None)], &files, none);
        assert_eq!(found, [expected], "{files:?}");
        let found = shuffle_shards(vec![deduplicate(None)], &files, none);
        assert_eq!(found, [expected], "{files:?}");
    }
}

#[test]
fn a_number_that_is_set_counts_and_a_later_shuffle_follows_the_one_before() {
    let files = [plain(512 * MIB)];
    let none = Sharding::default();
    let single = Sharding {
        has_single_output: true,
        ..none
    };
    for (steps, sharding, expected) in [
        (vec![group_by(Some(9))], none, vec![9]),
        (vec![group_by(None), deduplicate(None)], none, vec![4, 4]),
        (vec![group_by(Some(9)), deduplicate(None)], none, vec![9, 9]),
        (vec![group_by(None), deduplicate(Some(3))], none, vec![4, 3]),
        (vec![Step::Count, group_by(None)], none, vec![1, 1]),
        (vec![group_by(None)], single, vec![1]),
        (vec![group_by(None), deduplicate(None)], single, vec![1, 1]),
        (vec![group_by(None), Step::Count], single, vec![4, 1]),
        (
            vec![group_by(None), deduplicate(Some(1))],
            single,
            vec![4, 1],
        ),
    ] {
        assert_eq!(
            shuffle_shards(steps.clone(), &files, sharding),
            expected,
            "{steps:?}"
        );
    }
}

#[test]
fn a_number_is_only_kept_if_an_older_release_would_plan_another() {
    let files = [plain(1), plain(1)];
    for (steps, kept) in [
        (vec![], None),
        (vec![group_by(Some(5))], None),
        (vec![Step::Count], None),
        (vec![group_by(None)], Some(1)),
    ] {
        let (source, _) = plan_source(&pipeline(steps), &files, Sharding::default()).unwrap();
        assert_eq!(source.shuffle_shards, kept);
    }
    let (source, _) = plan_source(
        &pipeline(vec![group_by(None)]),
        &files[..1],
        Sharding::default(),
    )
    .unwrap();
    assert_eq!(source, PlannedSource::from(1));
}

#[test]
fn the_digest_covers_the_cuts_and_nothing_changes_without_them() {
    let part = |from, to| FilePart { file: 0, from, to };
    let digest = |parts: &[Vec<FilePart>]| {
        plan(&pipeline(vec![]), PlannedSource::of_parts(2, parts, None)).digest()
    };
    let two = digest(&[vec![part(0, 5)], vec![part(5, 9)]]);
    assert_eq!(two, digest(&[vec![part(0, 5)], vec![part(5, 9)]]));
    assert_ne!(two, digest(&[vec![part(0, 4)], vec![part(4, 9)]]));
    assert_ne!(two, digest(&[]));
    assert_eq!(digest(&[]), plan(&pipeline(vec![]), 2).digest());
}

#[test]
fn parts_that_lose_or_repeat_a_byte_are_refused() {
    let part = |file, from, to| FilePart { file, from, to };
    let sizes = [10, 0, 4];
    for good in [
        vec![
            vec![part(0, 0, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![vec![part(0, 0, 10), part(1, 0, 0), part(2, 0, 4)]],
        vec![
            vec![part(0, 0, 3)],
            vec![part(0, 3, 10)],
            vec![part(1, 0, 0), part(2, 0, 4)],
        ],
    ] {
        assert_eq!(check_parts(&good, &sizes), Ok(()), "{good:?}");
    }
    for bad in [
        vec![],
        vec![vec![]],
        vec![vec![part(0, 0, 10)], vec![part(1, 0, 0)]],
        vec![
            vec![part(0, 0, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 3)],
        ],
        vec![vec![part(0, 0, 10)], vec![part(2, 0, 4)]],
        vec![
            vec![part(0, 0, 3)],
            vec![part(0, 4, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 4)],
            vec![part(0, 3, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 11)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 0)],
            vec![part(0, 0, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
            vec![part(3, 0, 1)],
        ],
        vec![
            vec![part(0, 0, 3), part(0, 3, 10)],
            vec![part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
        vec![
            vec![part(0, 0, 3)],
            vec![part(0, 3, 10), part(1, 0, 0)],
            vec![part(2, 0, 4)],
        ],
    ] {
        assert!(check_parts(&bad, &sizes).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn every_byte_is_in_one_part_and_parts_of_a_file_differ_by_a_byte(
        sizes in proptest::collection::vec((0_u64..2000, 0_u8..4), 0..30),
        split_bytes in 0_u64..300,
        combine_bytes in 0_u64..300,
    ) {
        let files: Vec<ListedFile> = sizes
            .iter()
            .map(|(bytes, kind)| ListedFile {
                bytes: *bytes,
                name_bytes: 20,
                format: if kind % 2 == 0 { Format::Jsonl } else { Format::Text },
                is_compressed: *kind == 3,
                cuts: if *kind == 3 { Cuts::Nowhere } else { Cuts::Anywhere },
                is_pinned: true,
            })
            .collect();
        let sharding = Sharding { split_bytes: Some(split_bytes), combine_bytes, has_single_output: false };
        // The function checks that every byte is in one part.
        for shard in parts(&files, sharding) {
            let bytes: u64 = shard.iter().map(|(_, from, to)| to - from).sum();
            prop_assert!(shard.len() == 1 || bytes <= combine_bytes);
            let (file, from, to) = shard[0];
            let file = &files[file as usize];
            if to - from < file.bytes {
                prop_assert!(split_bytes > 0 && !file.is_compressed && file.bytes > split_bytes);
                let pieces = file.bytes.div_ceil(split_bytes);
                prop_assert!((file.bytes / pieces..=file.bytes / pieces + 1).contains(&(to - from)));
                prop_assert!(to - from <= split_bytes);
            }
        }
    }
}

#[test]
fn files_of_a_shuffle_are_gathered_if_its_ranges_are_many_and_small() {
    let gathered = |step: Step, mappers: usize, bytes: u64| {
        let files = vec![plain(bytes); mappers];
        let pipeline = pipeline(vec![step]);
        let (source, _) = plan_source(&pipeline, &files, splitting(0)).unwrap();
        let planned = plan(&pipeline, source.clone());
        assert_eq!(planned.check(), Ok(()));
        let is_there = planned.stages.iter().any(|stage| stage.gathers().is_some());
        assert_eq!(is_there, source.gather.is_some());
        source.gather
    };
    // 64 MiB become 16 MiB in a shuffle file, and a range of 64 KiB for each of 256 reducers.
    assert_eq!(gathered(group_by(Some(256)), 2000, 64 * MIB), Some(16));
    assert_eq!(gathered(deduplicate(Some(256)), 2000, 64 * MIB), Some(16));
    // The default number of shards: 2,000 files of 16 MiB have 250.
    assert_eq!(gathered(group_by(None), 2000, 16 * MIB), Some(63));
    assert_eq!(gathered(group_by(Some(256)), 2000, 100), Some(64));
    assert_eq!(gathered(group_by(Some(256)), 2000, 600 * MIB), Some(2));
    assert_eq!(gathered(group_by(Some(256)), 2000, 1024 * MIB), None);
    assert_eq!(gathered(group_by(Some(256)), 256, 100), None, "few ranges");
    assert_eq!(gathered(group_by(Some(256)), 257, 100), Some(64));
    assert_eq!(gathered(Step::Count, 90_000, 100), None, "one reducer");
    assert_eq!(gathered(Step::Map(".".to_owned()), 90_000, 100), None);
}

#[test]
fn a_plan_with_a_gathering_stage_shows_it_and_has_a_digest_of_its_own() {
    let pipeline = pipeline(vec![group_by(Some(256)), Step::Map(".".to_owned())]);
    let source = |gather| PlannedSource {
        gather,
        ..PlannedSource::from(1000)
    };
    let gathered = plan(&pipeline, source(Some(30)));
    let text = gathered.to_string();
    for line in [
        "3 stages, 1290 tasks",
        "1      map     1000    source                  shuffle, 1000 x 256 = 256000 ranges",
        "2      gather  34      files of stage 1, 30 each  shuffle, 34 x 256 = 8704 ranges",
        "  spec.pipeline.steps[0].groupBy: merge files into fewer",
    ] {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&text).contains(&squeezed(line)), "{line}\n{text}");
    }
    let digests = [None, Some(30), Some(31)].map(|gather| plan(&pipeline, source(gather)).digest());
    assert!(
        digests[0] != digests[1] && digests[1] != digests[2],
        "{digests:?}"
    );
}
