//! The bus over Redis keeps the promises, in every form in which Redis is run.
//!
//! Needs the programs `redis-server`, `redis-cli` and `redis-sentinel` (Debian: `apt-get install redis-server
//! redis-sentinel redis-tools`); the tests fail without them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "factories for tests: a panic is how they fail")]

mod redis_support;

use heliograph_bus::redis::Options;
use heliograph_bus::testing::TestNode;
use heliograph_sandbox::Redis;
use tokio::sync::OnceCell;

use redis_support::{nodes, of_its_own};

static STANDALONE: OnceCell<Redis> = OnceCell::const_new();
static CLUSTER: OnceCell<Redis> = OnceCell::const_new();
static SENTINEL: OnceCell<Redis> = OnceCell::const_new();

fn options(redis: &Redis) -> Options {
    Options::parse(&of_its_own(&redis.url())).unwrap()
}

mod standalone {
    use super::*;

    async fn factory(count: usize) -> Vec<TestNode> {
        let redis = STANDALONE.get_or_try_init(Redis::standalone).await.unwrap();
        nodes(&options(redis), count).await
    }

    heliograph_bus::conformance!(factory);
}

mod without_sharded_pubsub {
    use super::*;

    async fn factory(count: usize) -> Vec<TestNode> {
        let redis = STANDALONE.get_or_try_init(Redis::standalone).await.unwrap();
        nodes(&options(redis).with_plain_publish(), count).await
    }

    heliograph_bus::conformance!(factory);
}

mod cluster {
    use super::*;

    async fn factory(count: usize) -> Vec<TestNode> {
        let redis = CLUSTER.get_or_try_init(Redis::cluster).await.unwrap();
        nodes(&options(redis), count).await
    }

    heliograph_bus::conformance!(factory);
}

mod sentinel {
    use super::*;

    async fn factory(count: usize) -> Vec<TestNode> {
        let redis = SENTINEL.get_or_try_init(Redis::sentinel).await.unwrap();
        nodes(&options(redis), count).await
    }

    heliograph_bus::conformance!(factory);
}
