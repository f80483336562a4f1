//! Rights that are taken away together.

use super::*;

/// An invite of several uses with a device that was approved and one that waits.
async fn party(world: &World) -> (String, Device, Device) {
    let made = world.post("/api/pairing/generate-code", key(AGENT), json!({ "uses": 5 })).await.ok();
    let text = |answer: &Value, name: &str| answer[name].as_str().unwrap().to_owned();
    let mut devices = vec![];
    for _ in 0..2 {
        let answer = world.redeem(&text(&made, "code"), With::default()).await.ok();
        devices.push(Device {
            id: text(&answer, "id"),
            peer: text(&answer, "peer_id"),
            claim: text(&answer, "claim_token"),
        });
    }
    let (waits, guest) = (devices.pop().unwrap(), devices.pop().unwrap());
    world.decide(&guest, "approve", json!({})).await.ok();
    (text(&made, "id"), guest, waits)
}

async fn status_of(world: &World, peer: &str) -> Value {
    world.get(&format!("/api/peers/{peer}"), key(OPERATOR)).await.ok()["status"].clone()
}

/// What an answer has beyond the description of reports of groups.
async fn assert_described(report: &Value) {
    let document = describe::document("/openapi.json").await;
    let schema = &document["components"]["schemas"]["GroupReport"];
    for name in report.as_object().unwrap().keys() {
        assert!(schema["properties"].get(name).is_some(), "{name} is not described");
    }
    for name in schema["required"].as_array().unwrap() {
        assert!(report.get(name.as_str().unwrap()).is_some(), "no {name} in {report}");
    }
}

#[tokio::test]
async fn an_invite_takes_those_who_came_by_it_along_if_it_is_told_to() {
    let world = World::new().await;
    world.holder("gw-a");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (invite, guest, waits) = party(&world).await;
    let before = world.store.version().await.unwrap().0;
    let path = format!("/api/invites/{invite}?enrolled=revoke");
    let report = world.delete(&path, key(OPERATOR)).await.ok();
    assert_described(&report).await;
    let counts = json!({ "revoked": 1, "rejected": 1, "keys": 0, "invites": 1 });
    assert_eq!((&report["id"], &report["counts"]), (&json!(invite), &counts));
    assert_eq!(
        (&report["revoked"], &report["rejected"], &report["version"]),
        (&json!([guest.peer]), &json!([waits.peer]), &json!(before + 3))
    );
    assert_eq!((&report["enforced"], &report["acknowledged"]), (&json!(true), &json!(["gw-a"])));
    assert_eq!(
        (status_of(&world, &guest.peer).await, status_of(&world, &waits.peer).await),
        (json!("revoked"), json!("rejected"))
    );

    // Repeated, it waits for what was done before and does nothing.
    let again = world.delete(&path, key(OPERATOR)).await.ok();
    assert_eq!(
        (&again["version"], &again["enforced"], &again["revoked"]),
        (&json!(before + 3), &json!(true), &json!([]))
    );
    let metrics = answer(&world.ops, Request::get("/metrics").body(Body::empty()).unwrap()).await;
    for transition in ["revoke", "reject"] {
        let line = format!("heliograph_pairing_transitions_total{{transition=\"{transition}\"}} 1");
        assert!(metrics.text.contains(&line), "{line} in {}", metrics.text);
    }
}

#[tokio::test]
async fn an_invite_alone_is_taken_back_at_once_and_its_guests_stay() {
    let world = World::new().await;
    let stuck = GatewayId::parse("gw-stuck").unwrap();
    world.store.renew(&stuck, Version(0), Version(0)).await.unwrap();
    let (invite, guest, waits) = party(&world).await;
    let report = world.delete(&format!("/api/invites/{invite}"), key(OPERATOR)).await.ok();
    assert_described(&report).await;
    assert_eq!(
        (&report["enforced"], &report["acknowledged"], &report["waited_ms"]),
        (&json!(true), &json!([]), &json!(0))
    );
    assert_eq!(
        (status_of(&world, &guest.peer).await, status_of(&world, &waits.peer).await),
        (json!("approved"), json!("pending_approval"))
    );
    world.delete(&format!("/api/invites/{invite}"), key(OPERATOR)).await.is(404, "not_found");

    // Its guests follow it later, and that has to wait.
    let path = format!("/api/invites/{invite}?enrolled=revoke&wait=none");
    let open = world.delete(&path, key(OPERATOR)).await;
    assert_eq!(open.status, StatusCode::ACCEPTED, "{}", open.text);
    let report = open.json();
    assert_described(&report).await;
    assert_eq!((&report["enforced"], &report["revoked"]), (&json!(false), &json!([guest.peer])));
    let version = world.store.version().await.unwrap();
    world.store.renew(&stuck, version, version).await.unwrap();
    world.get(report["poll"].as_str().unwrap(), key(OPERATOR)).await.ok();
}

#[tokio::test]
async fn an_invite_of_another_mesh_does_not_exist() {
    let world = World::new().await;
    let (invite, guest, _) = party(&world).await;
    let path = format!("/api/invites/{invite}?enrolled=revoke");
    world.delete(&path, key(OTHER_ADMIN)).await.is(404, "not_found");
    world.delete("/api/invites/inv_unknown?enrolled=revoke", key(OPERATOR)).await.is(404, "not_found");
    world
        .delete(&format!("/api/invites/{invite}?enrolled=some"), key(OPERATOR))
        .await
        .is(400, "malformed_query");
    assert_eq!(status_of(&world, &guest.peer).await, "approved");
}

#[tokio::test]
async fn a_mesh_is_revoked_and_whoever_asks_stays() {
    let world = World::new().await;
    world.holder("gw-a");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, guest, waits) = party(&world).await;
    let report = world.post("/api/meshes/default/revoke", key(OPERATOR), json!({})).await.ok();
    assert_described(&report).await;
    assert_eq!(
        (&report["mesh"], &report["kept"], &report["enforced"]),
        (&json!("default"), &json!("operator"), &json!(true))
    );
    assert_eq!(report["counts"], json!({ "revoked": 2, "rejected": 1, "keys": 1, "invites": 1 }));
    let mut revoked = [json!("agent-001"), json!(guest.peer)];
    revoked.sort_by_key(Value::to_string);
    assert_eq!((&report["revoked"], &report["rejected"]), (&json!(revoked), &json!([waits.peer])));
    world.post("/api/pairing/generate-code", key(AGENT), json!({})).await.is(401, "unauthorized");
    world.get("/api/peers", key(OPERATOR)).await.ok();
    world.get("/api/peers", key(OTHER_ADMIN)).await.ok();
}

#[tokio::test]
async fn another_mesh_goes_with_its_administrators() {
    let world = World::new().await;
    let report = world.post("/api/meshes/other/revoke", key(OPERATOR), json!({})).await.ok();
    assert_eq!((&report["kept"], &report["revoked"]), (&Value::Null, &json!(["other-admin"])));
    world.get("/api/peers", key(OTHER_ADMIN)).await.is(401, "unauthorized");
}

#[tokio::test]
async fn only_the_operator_revokes_a_mesh_and_it_has_to_exist() {
    let world = World::new().await;
    for mesh in ["default", "other"] {
        let path = format!("/api/meshes/{mesh}/revoke");
        world.post(&path, key(OTHER_ADMIN), json!({})).await.is(403, "forbidden");
        world.post(&path, key(AGENT), json!({})).await.is(403, "forbidden");
    }
    world.post("/api/meshes/defualt/revoke", key(OPERATOR), json!({})).await.is(404, "not_found");
    world.post("/api/meshes/a%01mesh/revoke", key(OPERATOR), json!({})).await.is(400, "bad_mesh");
    assert_eq!(status_of(&world, "agent-001").await, "approved");
}

#[tokio::test]
async fn of_many_peers_the_first_are_named_and_all_are_counted() {
    let world = World::new().await;
    for n in 0..700 {
        world.add_key(&format!("ak_many_{n}"), &format!("many-{n:03}"), "many", "agent").await;
    }
    let report = world.post("/api/meshes/many/revoke", key(OPERATOR), json!({})).await.ok();
    assert_eq!(report["counts"], json!({ "revoked": 700, "rejected": 0, "keys": 700, "invites": 0 }));
    let named = report["revoked"].as_array().unwrap();
    assert_eq!((named.len(), &named[99]), (100, &json!("many-099")));
    assert_eq!(report["version"], world.store.version().await.unwrap().0);
}

#[tokio::test]
async fn an_approval_waits_for_every_node_if_it_is_told_to() {
    let world = World::new().await;
    let stuck = GatewayId::parse("gw-stuck").unwrap();
    world.store.renew(&stuck, Version(0), Version(0)).await.unwrap();
    let approve = async |query: &str| {
        let device = world.paired().await;
        let path = format!("/api/pairing/{}/approve{query}", device.id);
        world.post(&path, key(OPERATOR), json!({ "deliver": "device" })).await
    };
    let at_once = approve("").await.ok();
    assert_eq!((at_once["version"].is_u64(), at_once.get("enforced")), (true, None), "{at_once}");
    let open = approve("?wait=enforced&timeout_ms=50").await;
    assert_eq!(
        (open.status, &open.json()["enforced"]),
        (StatusCode::ACCEPTED, &json!(false)),
        "{}",
        open.text
    );
    let version = world.store.version().await.unwrap();
    assert_eq!(open.json()["version"], version.0);
    world.store.renew(&stuck, version, version).await.unwrap();
    let later = world.get(open.json()["poll"].as_str().unwrap(), key(OPERATOR)).await.ok();
    assert_eq!(later["acknowledged"], json!(["gw-stuck"]));
    world.store.remove_lease(&stuck, None).await.unwrap();
    world.holder("gw-a");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let report = approve("?wait=enforced").await.ok();
    assert_eq!(
        (&report["enforced"], &report["acknowledged"], &report["status"]),
        (&json!(true), &json!(["gw-a"]), &json!("approved"))
    );
    let metrics = answer(&world.ops, Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert!(metrics.text.contains("heliograph_revoke_enforced_seconds_count 0"), "an approval is no revoke");
}
