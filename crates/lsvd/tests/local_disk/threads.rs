//! Requests from every kind of thread that a program may ask from.

use std::sync::Arc;

use lsvd::doors::disk::{Directory, DiskFile, LocalDisk, WriteDurability};
use pollster::block_on;
use tokio::runtime::{Builder, Runtime};

fn runtime(builder: &mut Builder) -> Runtime {
    builder.build().expect("threads can be had")
}

/// Writes and reads a few times.
async fn work(file: Arc<dyn DiskFile>, place: u64) {
    for round in 0..20 {
        let parts = vec![vec![round; 4096].into()];
        let offset = place * 4096;
        let write = lsvd::doors::disk::DiskWrite { offset, parts };
        file.write(vec![write], WriteDurability::Synced)
            .await
            .expect("a write succeeds");
        let found = file.read(offset, 4096).await.expect("a read succeeds");
        assert_eq!(found, vec![round; 4096]);
    }
}

#[test]
fn any_thread_may_ask() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let many = runtime(Builder::new_multi_thread().worker_threads(2));
    let one = runtime(&mut Builder::new_current_thread());
    let disk = Directory::open(temporary.path(), many.handle().clone()).expect("it is free");
    let file = block_on(disk.create("f", 1 << 20)).expect("a file can be created");
    // A thread of no runtime, those of a runtime outside of its tasks, and its tasks, more of them
    // at once than there are workers.
    block_on(work(Arc::clone(&file), 0));
    many.block_on(work(Arc::clone(&file), 0));
    one.block_on(work(Arc::clone(&file), 0));
    let alone = tokio::task::LocalSet::new();
    alone.block_on(&many, work(Arc::clone(&file), 0));
    alone.block_on(&one, work(Arc::clone(&file), 0));
    one.block_on(async {
        let task = tokio::spawn(work(Arc::clone(&file), 0));
        task.await.expect("no task panics");
    });
    many.block_on(async {
        let tasks: Vec<_> = (0..8)
            .map(|place| tokio::spawn(work(Arc::clone(&file), place)))
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
}

#[test]
fn a_runtime_that_ended_is_an_error() {
    let temporary = tempfile::tempdir().expect("a directory can be made");
    let ended = runtime(Builder::new_multi_thread().worker_threads(1));
    let disk = Directory::open(temporary.path(), ended.handle().clone()).expect("it is free");
    let file = block_on(disk.create("f", 4096)).expect("a file can be created");
    drop(ended);
    let error = block_on(file.read(0, 4096)).expect_err("nobody can read it");
    assert!(error.to_string().contains("program is ending"), "{error}");
    block_on(disk.list()).expect_err("nobody can list it");
}
