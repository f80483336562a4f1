//! Nothing else is wrong.

use crate::scene::NODES;

use super::fire::Fire;

const PAIRS: usize = 50;
const REVOCATIONS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_passes_after_any_of_200_revocations() {
    let mut fire = Fire::start(|plan| plan, PAIRS, REVOCATIONS).await;
    for number in 0..REVOCATIONS {
        let victim = fire.victim(number);
        fire.revoke_calmly(victim, number % NODES).await;
    }
    fire.finish(|_| {}).await;
}
