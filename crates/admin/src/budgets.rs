//! Failures that count: per client address, and for guessed codes also from all addresses together.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use heliograph_bus::Budget;
use heliograph_bus::budget::{Limit, Scope};
use heliograph_core::limits::Limits;
use heliograph_core::rate::Rate;
use heliograph_http::{ClientAddress, Problem};
use http::Extensions;
use prometheus::IntCounterVec;

/// Lets a caller try while it has failures left. Successes cost nothing.
pub(crate) struct FailureBudgets {
    budget: Arc<dyn Budget>,
    authentication: Rate,
    redemption: Rate,
    redemption_of_all: Rate,
    refused: IntCounterVec,
}

impl FailureBudgets {
    pub(crate) fn new(budget: Arc<dyn Budget>, limits: &Limits, refused: IntCounterVec) -> Self {
        Self {
            budget,
            authentication: Rate::per_minute(limits.auth_failures_per_address),
            redemption: Rate::per_minute(limits.redeem_failures_per_address),
            redemption_of_all: Rate::per_minute(limits.redeem_failures_global),
            refused,
        }
    }

    /// Whether `address` may try; 429 when its failures, or those of all, are used up.
    pub(crate) async fn admit(&self, limit: Limit, address: IpAddr) -> Result<(), Problem> {
        for (scope, rate) in self.scopes(limit, address) {
            if !self.budget.has(limit, scope, rate).await {
                return Err(self.refuse(limit, rate));
            }
        }
        Ok(())
    }

    /// Counts a failure; 429 when others have used the budget up in the meantime.
    pub(crate) async fn failed(&self, limit: Limit, address: IpAddr) -> Result<(), Problem> {
        let mut outcome = Ok(());
        for (scope, rate) in self.scopes(limit, address) {
            if !self.budget.take(limit, scope, rate).await {
                outcome = Err(self.refuse(limit, rate));
            }
        }
        outcome
    }

    fn scopes(&self, limit: Limit, address: IpAddr) -> impl Iterator<Item = (Scope, Rate)> + use<> {
        let of_one = if limit == Limit::RedeemFailures { self.redemption } else { self.authentication };
        let of_all = (limit == Limit::RedeemFailures).then_some((Scope::Everyone, self.redemption_of_all));
        std::iter::once((Scope::of(address), of_one)).chain(of_all)
    }

    fn refuse(&self, limit: Limit, rate: Rate) -> Problem {
        self.refused.with_label_values(&[limit.as_str()]).inc();
        let seconds = rate.interval().as_secs() + u64::from(rate.interval().subsec_nanos() > 0);
        Problem::too_many(limit.as_str(), seconds.max(1))
    }
}

/// Whose request it is. Without an address (a router that was assembled without the accept loop) all callers are
/// one: that errs on the safe side.
pub(crate) fn client_address(extensions: &Extensions) -> IpAddr {
    extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ClientAddress(address)| *address)
}
