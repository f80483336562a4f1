//! The rules of [`Budget`]s, one function each.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::rate::Rate;

use crate::Budget;
use crate::budget::{Limit, Scope};

/// Five at once, and then none for a long time.
const FIVE: Rate = Rate::per_minute(5);

fn address(text: &str) -> Scope {
    Scope::of(text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
}

async fn take(budget: &Arc<dyn Budget>, scope: Scope, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        passed += usize::from(budget.take(Limit::Upgrades, scope, FIVE).await);
    }
    passed
}

/// What may come at once passes, and no more.
pub async fn a_burst_passes_and_then_nothing(budget: Arc<dyn Budget>) {
    assert_eq!(take(&budget, address("10.0.0.1"), 8).await, 5);
    assert!(!budget.has(Limit::Upgrades, address("10.0.0.1"), FIVE).await);
}

/// Asking counts nothing.
pub async fn looking_is_free(budget: Arc<dyn Budget>) {
    for _ in 0..20 {
        assert!(budget.has(Limit::Upgrades, address("10.0.0.1"), FIVE).await);
    }
    assert_eq!(take(&budget, address("10.0.0.1"), 8).await, 5);
}

/// Nobody pays for another, and one limit not for another.
pub async fn scopes_and_limits_are_apart(budget: Arc<dyn Budget>) {
    assert_eq!(take(&budget, address("10.0.0.1"), 8).await, 5);
    assert_eq!(take(&budget, address("10.0.0.2"), 8).await, 5);
    assert_eq!(take(&budget, Scope::Everyone, 8).await, 5);
    assert_eq!(take(&budget, Scope::Thing(1), 8).await, 5);
    assert_eq!(take(&budget, Scope::Thing(2), 8).await, 5);
    assert!(budget.take(Limit::RedeemFailures, address("10.0.0.1"), FIVE).await);
    assert!(budget.take(Limit::AuthFailures, Scope::Everyone, FIVE).await);
}

/// Of IPv6, the /64 is one scope.
pub async fn one_ipv6_customer_has_one_budget(budget: Arc<dyn Budget>) {
    assert_eq!(take(&budget, address("2001:db8:1:2::1"), 3).await, 3);
    assert_eq!(take(&budget, address("2001:db8:1:2:ffff::9"), 8).await, 2);
    assert_eq!(take(&budget, address("2001:db8:1:3::1"), 1).await, 1);
}

/// A rate of zero lets everything pass.
pub async fn off_is_off(budget: Arc<dyn Budget>) {
    for _ in 0..100 {
        assert!(budget.take(Limit::Upgrades, Scope::Everyone, Rate::per_minute(0)).await);
    }
}

/// An empty budget fills up again.
pub async fn time_gives_back(budget: Arc<dyn Budget>) {
    let rate = Rate::per_second(20, 2);
    let scope = address("10.0.0.1");
    let mut refused = false;
    for _ in 0..100 {
        refused = refused || !budget.take(Limit::Upgrades, scope, rate).await;
    }
    assert!(refused);
    for _ in 0..1_000 {
        if budget.take(Limit::Upgrades, scope, rate).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing passes any more");
}

/// One test per rule for the budget that `$factory`, an `async fn() -> (Arc<dyn Budget>, impl Any)`, makes with what
/// keeps it alive.
#[macro_export]
macro_rules! budget_conformance {
    ($factory:expr) => {
        $crate::budget_conformance!(@rules $factory,
            a_burst_passes_and_then_nothing,
            looking_is_free,
            scopes_and_limits_are_apart,
            one_ipv6_customer_has_one_budget,
            off_is_off,
            time_gives_back,
        );
    };
    (@rules $factory:expr, $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $rule() {
                let (budget, _keep) = $factory().await;
                $crate::testing::budget_rules::$rule(budget).await;
            }
        )*
    };
}
