//! Requests that block workers, and what goes on beside them.

use std::io::Write as _;
use std::sync::mpsc;

use tokio::io::AsyncReadExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::*;
use crate::doors::runtime::{Runtime as _, TokioRuntime};

fn workers(workers: usize) -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

/// As the engine spawns its tasks.
fn spawn<T: Send + 'static>(
    runtime: &Handle,
    task: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    let task = async move { drop(answer.send(task.await)) };
    TokioRuntime::on(runtime.clone()).spawn(Box::pin(task));
    answered
}

/// So many requests block at once until a task of the same runtime has its turn.
fn a_task_gets_its_turn(count: usize, requests: usize) {
    let runtime = workers(count);
    let threads = Threads::new(runtime.handle().clone());
    let (begun, all_begun) = mpsc::channel();
    let releases: Vec<_> = (0..requests).map(|_| mpsc::channel::<()>()).collect();
    let (releases, waits): (Vec<_>, Vec<_>) = releases.into_iter().unzip();
    let asked: Vec<_> = waits
        .into_iter()
        .map(|wait| {
            let begun = begun.clone();
            let request = threads.run_in_place(move || {
                begun.send(()).unwrap();
                Ok(wait.recv_timeout(Duration::from_secs(20)).is_ok())
            });
            spawn(runtime.handle(), request)
        })
        .collect();
    for _ in 0..requests {
        all_begun.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    runtime.spawn(async move {
        for release in releases {
            release.send(()).unwrap();
        }
    });
    for request in asked {
        let is_released = runtime.block_on(request).unwrap().unwrap();
        assert!(is_released, "{count} workers, {requests} requests");
    }
}

#[test]
fn requests_that_block_leave_a_worker_to_the_others() {
    for (workers, requests) in [(1, 1), (2, 1), (2, 2), (2, 5), (4, 4)] {
        a_task_gets_its_turn(workers, requests);
    }
}

/// The worker that was woken for a socket blocks at once: another one has to wait for timers.
#[test]
fn sockets_and_timers_are_waited_for_while_a_request_blocks() {
    for count in [1, 2, 8] {
        let runtime = workers(count);
        let threads = Threads::new(runtime.handle().clone());
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (release, wait) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let request = spawn(runtime.handle(), async move {
            let mut theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
            theirs.read_u8().await.unwrap();
            let blocks = threads.run_in_place(move || {
                begun.send(()).unwrap();
                Ok(wait.recv_timeout(Duration::from_secs(20)).is_ok())
            });
            blocks.await.unwrap()
        });
        let timer = runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            release.send(()).unwrap();
        });
        std::thread::sleep(Duration::from_millis(50));
        (&ours).write_all(&[1]).unwrap();
        has_begun.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(runtime.block_on(request).unwrap(), "{count} workers");
        runtime.block_on(timer).unwrap();
    }
}

/// A task that yields waits beside the queues of its worker, where no neighbour finds it.
#[test]
fn a_slow_disk_holds_up_no_task_that_yielded() {
    for count in [1, 2, 8] {
        let runtime = workers(count);
        let threads = Threads::new(runtime.handle().clone());
        let slow = threads.run_in_place(|| {
            std::thread::sleep(BRIEF * 2);
            Ok(())
        });
        let slow = spawn(runtime.handle(), slow);
        runtime.block_on(slow).unwrap().unwrap();
        let (release, wait) = mpsc::channel::<()>();
        let here = runtime.handle().clone();
        let both = spawn(runtime.handle(), async move {
            let blocks = threads
                .run_in_place(move || Ok(wait.recv_timeout(Duration::from_secs(20)).is_ok()));
            let request = spawn(&here, blocks);
            tokio::task::yield_now().await;
            release.send(()).unwrap();
            request.await.unwrap().unwrap()
        });
        assert!(runtime.block_on(both).unwrap(), "{count} workers");
    }
}

/// A disk that is fast again is written to in place again.
#[test]
fn what_is_brief_is_done_on_the_thread_of_the_task() {
    let runtime = workers(2);
    let threads = Threads::new(runtime.handle().clone());
    let is_in_place = |pause| {
        let threads = threads.clone();
        let asked = spawn(runtime.handle(), async move {
            let here = std::thread::current().id();
            let there = threads.run_in_place(move || {
                std::thread::sleep(pause);
                Ok(std::thread::current().id())
            });
            there.await.unwrap() == here
        });
        runtime.block_on(asked).unwrap()
    };
    threads.is_slow.store(true, Ordering::Relaxed);
    // A thread of others may be held up for as long as a slow disk takes, but not always.
    while !is_in_place(Duration::ZERO) {}
    while is_in_place(BRIEF * 2) {}
}

/// The runtime that was entered is not the one whose thread this is.
#[test]
fn a_thread_that_entered_another_runtime_is_no_worker_of_it() {
    let other = workers(1);
    let here = Builder::new_current_thread().build().unwrap();
    let threads = Threads::new(other.handle().clone());
    here.block_on(async {
        let _entered = other.enter();
        threads.run_in_place(|| Ok(())).await.unwrap();
    });
}
