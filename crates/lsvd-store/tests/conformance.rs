//! The conformance suite on every store and every decorator.

use std::num::NonZeroU64;
use std::sync::Arc;

use lsvd::doors::runtime::TokioRuntime;
use lsvd::doors::store::ObjectStore;
use lsvd_store::{
    Bandwidth, Counting, Fault, Faulty, Latency, LocalDirectory, MemoryStore, Verb,
    conformance_tests,
};
use tempfile::TempDir;

fn directory(open: fn(&std::path::Path) -> LocalDirectory) -> (Arc<dyn ObjectStore>, TempDir) {
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    (Arc::new(open(temporary.path())), temporary)
}

fn local(path: &std::path::Path) -> LocalDirectory {
    LocalDirectory::create_empty(path).expect("an empty directory is taken")
}

fn local_with_hidden_names(path: &std::path::Path) -> LocalDirectory {
    LocalDirectory::open_with_hidden_names(path).expect("a directory is taken")
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new())
}

fn runtime() -> Arc<TokioRuntime> {
    Arc::new(TokioRuntime::start(1).expect("threads can be had"))
}

fn latency() -> Arc<dyn ObjectStore> {
    let range = "100us..500us".parse().expect("a latency");
    Arc::new(Latency::new(memory(), runtime()).writes(range).reads(range))
}

fn latency_of_writes_only() -> Arc<dyn ObjectStore> {
    let range = "100us..500us".parse().expect("a latency");
    Arc::new(Latency::new(memory(), runtime()).writes(range))
}

fn bandwidth() -> Arc<dyn ObjectStore> {
    let bytes_per_second = NonZeroU64::new(1 << 30).expect("not zero");
    Arc::new(Bandwidth::new(memory(), runtime(), bytes_per_second))
}

/// Faults that belong to other objects, so the rules are looked through and nothing fails.
fn faulty() -> Arc<dyn ObjectStore> {
    let store = Faulty::new(memory());
    for verb in [Verb::Put, Verb::Get, Verb::List, Verb::Delete] {
        store.fail_next_of("other", verb, 1, Fault::LoseReply);
    }
    Arc::new(store)
}

conformance_tests!(local_directory, directory(local));
conformance_tests!(
    local_directory_with_hidden_names,
    directory(local_with_hidden_names)
);
conformance_tests!(memory_store, (memory(), ()));
conformance_tests!(with_latency, (latency(), ()));
conformance_tests!(with_latency_of_writes_only, (latency_of_writes_only(), ()));
conformance_tests!(with_bandwidth, (bandwidth(), ()));
conformance_tests!(with_faulty, (faulty(), ()));
conformance_tests!(
    with_counting,
    (
        Arc::new(Counting::new(memory())) as Arc<dyn ObjectStore>,
        ()
    )
);
conformance_tests!(with_all, {
    let (inner, guard) = directory(local);
    let range = "0ms..1ms".parse().expect("a latency");
    let slow = Latency::new(Arc::new(Faulty::new(inner)), runtime()).writes(range);
    (
        Arc::new(Counting::new(Arc::new(slow))) as Arc<dyn ObjectStore>,
        guard,
    )
});
