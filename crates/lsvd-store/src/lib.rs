//! Object stores for LSVD: a local directory, memory, and decorators for any store.
//!
//! Every store and every decorator is an [`ObjectStore`](lsvd::doors::store::ObjectStore) and
//! passes the same [`conformance`] suite. Decorators wrap an `Arc<dyn ObjectStore>`, so they stack
//! in any order:
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use lsvd::doors::runtime::TokioRuntime;
//! use lsvd::doors::store::ObjectStore;
//! use lsvd_store::{Counting, Latency, MemoryStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Arc::new(TokioRuntime::start(1)?);
//! let slow = Latency::new(Arc::new(MemoryStore::new()), runtime).writes("1ms..2ms".parse()?);
//! let store = Counting::new(Arc::new(slow));
//! pollster::block_on(store.put("data.00000000", vec![Bytes::from_static(b"hello")]))?;
//! assert_eq!(store.counts().put.requests, 1);
//! # Ok(())
//! # }
//! ```

pub mod conformance;

mod bandwidth;
mod counting;
mod faulty;
mod latency;
mod local;
mod memory;
mod url;

pub use bandwidth::Bandwidth;
pub use counting::{Counting, Counts, VerbCounts};
pub use faulty::{Fault, Faulty, Verb};
pub use latency::{Latency, LatencyRange};
pub use local::{LocalDirectory, Missing, Occupied};
pub use memory::MemoryStore;
pub use url::StoreUrl;
