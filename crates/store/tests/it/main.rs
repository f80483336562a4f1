//! The reference implementation keeps the promises that it is the reference for.

use heliograph_store::memory::MemoryStore;
use heliograph_store::testing::Fresh;

async fn fresh() -> Fresh {
    Fresh::new(MemoryStore::new())
}

mod conformance {
    heliograph_store::conformance!(super::fresh);
}
