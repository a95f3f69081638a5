//! Foreign objects in an output's folder on S3: keys that are not outputs, and uploads of attempts
//! that were killed.

use zephyr_crds::pipeline::SinkMode;
use zephyr_engine::id::JobUid;
use zephyr_store::finalize::{
    Finalized, Output, OwnerWatch, claim, close, finalize, throw_away_leftovers,
};
use zephyr_store::storage::{JobStorage, Location, fetch};

use super::object_stores::{Server, attempt, uid, upload};

/// A job's output in `folder/out`, while others write there, too.
pub(super) async fn run_beside_others(
    server: &Server,
    folder: &str,
    meanwhile: impl AsyncFnOnce(&str),
) {
    let (stores, out) = (server.stores(), format!("{folder}/out"));
    let output = Output {
        storage: JobStorage::new(stores.clone(), &format!("{folder}/own"), uid()).unwrap(),
        stores: stores.clone(),
        job: uid(),
        namespace: "ns".to_owned(),
        name: "name".to_owned(),
        path: format!("{out}/p-{{shard}}.jsonl"),
        more_paths: Vec::new(),
        mode: SinkMode::Overwrite,
        has_begun: false,
    };
    claim(&output, &mut OwnerWatch::default()).await.unwrap();
    let file = upload(&stores, &format!("{out}/p-0.jsonl"), b"1\n".to_vec()).await;
    assert_eq!(finalize(&stores, &file).await.unwrap(), Finalized::Stands);
    meanwhile(&out).await;
    let closed = close(&output, "digest", &[(attempt(0), file)], &[]).await;
    assert_eq!(closed.unwrap(), format!("{out}/_SUCCESS.json"));
    let content = fetch(
        &stores,
        &Location::parse(&format!("{out}/p-0.jsonl")).unwrap(),
    )
    .await;
    assert_eq!(content.unwrap().as_ref(), b"1\n");
}

/// Attempts that were killed leave uploads. The end of the job discards these, and leaves the
/// uploads of other jobs.
pub(super) async fn throw_away_uploads(server: &Server) {
    let (stores, folder) = (server.stores(), server.folder("left-uploads"));
    let output = |name: &str| Output {
        storage: JobStorage::new(stores.clone(), &format!("{folder}/own-{name}"), uid()).unwrap(),
        stores: stores.clone(),
        job: JobUid::parse(name).unwrap(),
        namespace: "ns".to_owned(),
        name: "name".to_owned(),
        path: format!("{folder}/out/p-{{shard}}.jsonl"),
        more_paths: Vec::new(),
        mode: SinkMode::Overwrite,
        has_begun: false,
    };
    let first = output("first");
    claim(&first, &mut OwnerWatch::default()).await.unwrap();
    let names = ["p-0.jsonl", "p-1.jsonl", "p-x.jsonl"];
    let mut left = Vec::new();
    for name in names {
        left.push(upload(&stores, &format!("{folder}/out/{name}"), b"1\n".to_vec()).await);
    }
    assert_eq!(throw_away_leftovers(&first, 2).await.unwrap(), 2);
    for (file, expected) in left
        .iter()
        .zip([Finalized::Lost, Finalized::Lost, Finalized::Stands])
    {
        assert_eq!(finalize(&stores, file).await.unwrap(), expected);
    }
    // Now a job of the same name owns the folder: later uploads to it do not belong to the first
    // job.
    claim(&output("second"), &mut OwnerWatch::default())
        .await
        .unwrap();
    let later = upload(&stores, &format!("{folder}/out/p-0.jsonl"), b"2\n".to_vec()).await;
    assert_eq!(throw_away_leftovers(&first, 2).await.unwrap(), 0);
    assert_eq!(finalize(&stores, &later).await.unwrap(), Finalized::Stands);
}
