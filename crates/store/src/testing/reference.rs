//! Any sequence of calls, on a backend and on the reference at once: the same answers, the same versions, and in
//! the end the same rows. What no rule thought of shows here.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::*;
use crate::Group;
use crate::memory::MemoryStore;

/// Sequences tried, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 40;
/// Calls in a sequence at most.
const CALLS: usize = 60;

/// A call with its arguments, drawn from few names so that calls meet.
#[derive(Debug, Clone)]
enum Call {
    CreateInvite { id: u8, code: u8, mesh: u8, uses: u32, ttl: i64, max_open: u32 },
    RevokeInvite { id: u8 },
    Redeem { code: u8, id: u8, peer: u8, max_pending: u32 },
    Transition { id: u8, transition: Transition },
    IssueDeviceToken { id: u8, token: u8 },
    RevokePeer { mesh: u8, peer: u8 },
    RevokeEnrolled { invite: u8, mesh: Option<u8> },
    RevokeMesh { mesh: u8, spared: Option<u8> },
    CreateKey { id: u8, secret: u8, mesh: u8, peer: u8, admin: bool },
    RevokeKey { id: u8 },
    Renew { gateway: u8, behind: u64, acknowledged: u64 },
    RemoveLease { gateway: u8, stale: bool },
    Look { id: u8, mesh: u8, peer: u8 },
    Wait { ms: i64 },
}

fn call() -> impl Strategy<Value = Call> {
    let transition = prop_oneof![2 => Just(Transition::Approve), 1 => Just(Transition::Reject), 1 => Just(Transition::Revoke)];
    prop_oneof![
        4 => (0..5u8, 0..4u8, 0..2u8, 1..4u32, 0..60i64, 1..5u32).prop_map(
            |(id, code, mesh, uses, ttl, max_open)| Call::CreateInvite { id, code, mesh, uses, ttl, max_open }
        ),
        1 => (0..5u8).prop_map(|id| Call::RevokeInvite { id }),
        8 => (0..4u8, 0..6u8, 0..5u8, 1..4u32).prop_map(
            |(code, id, peer, max_pending)| Call::Redeem { code, id, peer, max_pending }
        ),
        6 => (0..6u8, transition).prop_map(|(id, transition)| Call::Transition { id, transition }),
        3 => (0..6u8, 0..4u8).prop_map(|(id, token)| Call::IssueDeviceToken { id, token }),
        1 => (0..2u8, 0..5u8).prop_map(|(mesh, peer)| Call::RevokePeer { mesh, peer }),
        1 => (0..5u8, prop::option::of(0..2u8)).prop_map(
            |(invite, mesh)| Call::RevokeEnrolled { invite, mesh }
        ),
        1 => (0..2u8, prop::option::of(0..5u8)).prop_map(|(mesh, spared)| Call::RevokeMesh { mesh, spared }),
        4 => (0..5u8, 0..5u8, 0..2u8, 0..5u8, any::<bool>()).prop_map(
            |(id, secret, mesh, peer, admin)| Call::CreateKey { id, secret, mesh, peer, admin }
        ),
        2 => (0..5u8).prop_map(|id| Call::RevokeKey { id }),
        2 => (0..3u8, 0..9u64, 0..9u64).prop_map(
            |(gateway, behind, acknowledged)| Call::Renew { gateway, behind, acknowledged }
        ),
        1 => (0..3u8, any::<bool>()).prop_map(|(gateway, stale)| Call::RemoveLease { gateway, stale }),
        2 => (0..6u8, 0..2u8, 0..5u8).prop_map(|(id, mesh, peer)| Call::Look { id, mesh, peer }),
        2 => (-5..40i64).prop_map(|ms| Call::Wait { ms }),
    ]
}

/// Runs random sequences on stores of the factory and on the reference; the shortest that tells them apart is
/// the failure.
pub fn answers_as_the_reference<F: Future<Output = Fresh>>(factory: impl Fn() -> F) {
    let runtime = Runtime::new().unwrap();
    let config =
        Config { cases: Config::default().cases.min(CASES), failure_persistence: None, ..Config::default() };
    let sequences = (prop::collection::vec(call(), 1..CALLS), 1..8u32);
    let result = TestRunner::new(config).run(&sequences, |(calls, limit)| {
        runtime.block_on(async { compare(&*factory().await, &calls, limit).await })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

async fn compare(store: &dyn Store, calls: &[Call], limit: u32) -> Result<(), TestCaseError> {
    let reference = MemoryStore::new();
    let mut now = NOW;
    for call in calls {
        if let Call::Wait { ms } = call {
            now += ms;
        }
        let expected = answer(&reference, call, now).await;
        prop_assert_eq!(answer(store, call, now).await, expected, "{:?}", call);
    }
    prop_assert_eq!(everything(store, limit).await, everything(&reference, limit).await);
    prop_assert_eq!(lease_rows(store).await, lease_rows(&reference).await);
    verified_log(store).await;
    Ok(())
}

/// Beats are the backend's own affair.
async fn lease_rows(store: &dyn Store) -> Vec<(GatewayId, Version)> {
    let mut rows: Vec<_> =
        store.leases().await.unwrap().into_iter().map(|row| (row.gateway, row.acknowledged)).collect();
    rows.sort();
    rows
}

fn a_mesh(n: u8) -> MeshName {
    mesh(["home", "elsewhere"][usize::from(n)])
}

/// What the store answers, with the version that it is at then.
async fn answer(store: &dyn Store, call: &Call, now: UnixMillis) -> String {
    let answer = make(store, call.clone(), now).await;
    format!("{answer} at {:?}", store.version().await)
}

async fn make(store: &dyn Store, call: Call, now: UnixMillis) -> String {
    let by = By { actor: "ak_1", now };
    match call {
        Call::CreateInvite { id, code, mesh, uses, ttl, max_open } => {
            let (id, code, mesh) = (format!("i{id}"), hash(&format!("c{code}")), a_mesh(mesh));
            let new = NewInvite { id, mesh, code, uses, expires_at: now + ttl, max_open };
            format!("{:?}", store.create_invite(new, by).await)
        }
        Call::RevokeInvite { id } => format!("{:?}", store.revoke_invite(&format!("i{id}"), by).await),
        Call::Redeem { code, id, peer, max_pending } => {
            let new = redemption(&format!("c{code}"), &format!("p{peer}"));
            format!("{:?}", store.redeem(Redemption { id: format!("r{id}"), max_pending, ..new }, now).await)
        }
        Call::Transition { id, transition } => {
            format!("{:?}", store.transition(&format!("r{id}"), transition, by).await)
        }
        Call::IssueDeviceToken { id, token } => {
            let issued = store.issue_device_token(&format!("r{id}"), hash(&format!("t{token}")), now).await;
            format!("{issued:?} {:?}", store.peer_of_device_token(&hash(&format!("t{token}"))).await)
        }
        Call::RevokePeer { mesh, peer: n } => {
            format!("{:?}", store.revoke_peer(&a_mesh(mesh), &peer(&format!("p{n}")), by).await)
        }
        Call::RevokeEnrolled { invite, mesh } => {
            let (invite, mesh) = (format!("i{invite}"), mesh.map(a_mesh));
            let group = Group::Enrolled { invite: &invite, mesh: mesh.as_ref() };
            format!("{:?}", store.revoke_group(group, by).await)
        }
        Call::RevokeMesh { mesh, spared } => {
            let (mesh, spared) = (a_mesh(mesh), spared.map(|n| peer(&format!("p{n}"))));
            let group = Group::Mesh { mesh: &mesh, spared: spared.as_ref() };
            format!("{:?}", store.revoke_group(group, by).await)
        }
        Call::CreateKey { id, secret, mesh, peer, admin } => {
            let role = if admin { "admin" } else { "agent" }.to_owned();
            let (secret, mesh) = (hash(&format!("s{secret}")), a_mesh(mesh));
            let new = NewKey { secret, mesh, role, ..key(&format!("k{id}"), &format!("p{peer}")) };
            let made = store.create_key(new, by).await;
            format!("{made:?} {:?}", store.key_of_secret(&secret).await)
        }
        Call::RevokeKey { id } => format!("{:?}", store.revoke_key(&format!("k{id}"), by).await),
        Call::Renew { gateway: n, behind, acknowledged } => {
            let version = store.version().await.unwrap().0;
            let applied = Version(version.saturating_sub(behind));
            let acknowledged = Version(acknowledged.min(applied.0));
            format!("{:?}", store.renew(&gateway(&format!("g{n}")), applied, acknowledged).await)
        }
        Call::RemoveLease { gateway: n, stale } => {
            let id = gateway(&format!("g{n}"));
            let beat =
                store.leases().await.unwrap().into_iter().find(|row| row.gateway == id).map(|row| row.beat);
            let beat = if stale { beat.map(|beat| beat - 1) } else { beat };
            format!("{:?}", store.remove_lease(&id, beat).await)
        }
        Call::Look { id, mesh, peer: n } => {
            let pairing = store.pairing_of_claim(&format!("r{id}"), &hash(&format!("p{n}"))).await;
            format!("{pairing:?} {:?}", store.peer(&a_mesh(mesh), &peer(&format!("p{n}"))).await)
        }
        Call::Wait { .. } => String::new(),
    }
}
