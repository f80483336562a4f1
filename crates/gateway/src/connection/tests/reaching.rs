//! A session is heard of when what is sent to it is its own, and not before.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use heliograph_bus::{Bus, BusError, Destination, Parcel, Sent};

use super::*;

/// A bus that is slow with fences, and with nothing else.
struct SlowFences {
    bus: Arc<dyn Bus>,
    held: Mutex<Vec<(Destination, Parcel)>>,
}

impl SlowFences {
    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(Destination, Parcel)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self) {
        for (destination, fence) in std::mem::take(&mut *self.held()) {
            self.bus.send(destination, fence);
        }
    }
}

#[async_trait]
impl Bus for SlowFences {
    fn send(&self, destination: Destination, parcel: Parcel) -> Sent {
        if let Parcel::Superseded { .. } = parcel {
            self.held().push((destination, parcel));
            return Sent::Queued;
        }
        self.bus.send(destination, parcel)
    }

    async fn subscribe(&self, destination: Destination) -> Result<(), BusError> {
        self.bus.subscribe(destination).await
    }

    async fn unsubscribe(&self, destination: &Destination) {
        self.bus.unsubscribe(destination).await;
    }

    fn is_up(&self) -> bool {
        self.bus.is_up()
    }
}

/// A world with such a bus, and a client of it that has registered and whose list waits for the fence.
async fn registering() -> (World, Arc<SlowFences>, Client) {
    let mut slow = None;
    let world = World::over(Limits::default(), |mut link| {
        let fences = SlowFences { bus: Arc::clone(&link.bus), held: Mutex::default() };
        link.bus = Arc::clone(slow.insert(Arc::new(fences))) as Arc<dyn Bus>;
        link
    });
    let (mut client, connection) = world.connect("a", 4096).await;
    tokio::spawn(connection.run());
    client.send(Message::text(r#"{"type":"register","peer_id":"a"}"#)).await.unwrap();
    (world, slow.unwrap(), client)
}

async fn listed(world: &World) -> u64 {
    world.gateway.link.presence.online(&MeshName::default_mesh().into()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_of_a_session_before_its_fence_came_by() {
    let (world, fences, mut client) = registering().await;
    // The clock goes on only when nobody has anything to do.
    let early = tokio::time::timeout(Duration::from_secs(1), client.next()).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(listed(&world).await, 0);
    fences.let_go();
    assert!(next_text(&mut client).await.contains("peer_list"));
    assert_eq!(listed(&world).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_fence_never_comes_by_is_not_listed_and_its_client_may_try_again() {
    let (world, _fences, mut client) = registering().await;
    match client.next().await {
        Some(Ok(Message::Close(Some(frame)))) => {
            assert_eq!(u16::from(frame.code), CloseCode::Unavailable.code());
        }
        other => panic!("the end expected, not {other:?}"),
    }
    assert_eq!(listed(&world).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_superseded_waits_for_its_fence_no_longer() {
    let (world, _fences, mut client) = registering().await;
    let (_newer, connection) = world.connect("a", 4096).await;
    tokio::spawn(connection.run());
    let end = tokio::time::timeout(Duration::from_secs(1), client.next()).await;
    let Ok(Some(Ok(Message::Close(Some(frame))))) = &end else { panic!("the end expected, not {end:?}") };
    assert_eq!(u16::from(frame.code), CloseCode::Superseded.code());
}
