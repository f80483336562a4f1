//! The descriptions of the interface against the routes.

use std::collections::BTreeSet;

use super::*;

/// Calls that take an admin key.
pub(super) const ADMIN_CALLS: [(&str, &str); 20] = [
    ("GET", "/api/pairing/pending"),
    ("GET", "/api/pairing/all"),
    ("POST", "/api/pairing/{id}/approve"),
    ("POST", "/api/pairing/{id}/reject"),
    ("POST", "/api/pairing/{id}/revoke"),
    ("GET", "/api/pairing/changes/{version}"),
    ("GET", "/api/invites"),
    ("DELETE", "/api/invites/{id}"),
    ("POST", "/api/meshes/{mesh}/revoke"),
    ("GET", "/api/peers"),
    ("GET", "/api/peers/{id}"),
    ("GET", "/api/keys"),
    ("POST", "/api/keys"),
    ("DELETE", "/api/keys/{id}"),
    ("GET", "/api/audit"),
    ("GET", "/api/audit/verify"),
    ("GET", "/api/gateways"),
    ("POST", "/api/gateways/{id}/drain"),
    ("DELETE", "/api/gateways/{id}/drain"),
    ("GET", "/api/events"),
];

const PUBLIC_CALLS: [(&str, &str); 10] = [
    ("POST", "/api/pairing/generate-code"),
    ("POST", "/api/pairing/pair"),
    ("GET", "/api/pairing/{id}/status"),
    ("GET", "/"),
    ("GET", "/console"),
    ("GET", "/client.js"),
    ("GET", "/client.d.ts"),
    ("GET", "/assets/{name}"),
    ("GET", "/openapi.json"),
    ("GET", "/asyncapi.json"),
];

const OPS_CALLS: [(&str, &str); 4] =
    [("GET", "/livez"), ("GET", "/readyz"), ("GET", "/startupz"), ("GET", "/metrics")];

/// Calls of the gateway, which this crate describes only.
const GATEWAY_CALLS: [(&str, &str); 4] =
    [("POST", "/api/token"), ("GET", "/api/config"), ("GET", "/.well-known/jwks.json"), ("GET", "/ws")];

pub(super) async fn document(path: &str) -> Value {
    let request = Request::get(path).body(Body::empty()).unwrap();
    answer(&crate::pages_router(Mode::Serve), request).await.ok()
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else() {
    let document = document("/openapi.json").await;
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let routes = ADMIN_CALLS.iter().chain(&PUBLIC_CALLS).chain(&OPS_CALLS).chain(&GATEWAY_CALLS);
    let routes: BTreeSet<_> =
        routes.map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, routes);
}

#[tokio::test]
async fn every_call_of_this_crate_is_routed() {
    let world = World::new().await;
    let calls = ADMIN_CALLS.iter().chain(&PUBLIC_CALLS).map(|call| (&world.app, call));
    for (app, (method, path)) in calls.chain(OPS_CALLS.iter().map(|call| (&world.ops, call))) {
        let path = path.replace("{name}", "ui.js").replace("{version}", "1");
        let request = Request::builder().method(*method).uri(&path).body(Body::empty()).unwrap();
        let status = answer(app, request).await.status;
        let missing = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&status);
        assert!(!missing, "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn references_lead_somewhere_and_operations_have_names_of_their_own() {
    for path in ["/openapi.json", "/asyncapi.json"] {
        let document = document(path).await;
        let mut references = vec![];
        collect(&document, "$ref", &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}: {reference}");
        }
        let mut ids = vec![];
        collect(&document, "operationId", &mut ids);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    }
}

fn collect(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(name).and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

/// The members of an answer that the description promises, and no others.
async fn check(world: &World, path: &str, schema: &str, pick: impl Fn(&Value) -> Value) {
    let row = pick(&world.get(path, key(OPERATOR)).await.ok());
    let document = document("/openapi.json").await;
    let schema = &document["components"]["schemas"][schema];
    let described = schema["properties"].as_object().unwrap();
    for required in schema["required"].as_array().unwrap() {
        assert!(row.get(required.as_str().unwrap()).is_some(), "{path}: {required} in {row}");
    }
    for name in row.as_object().unwrap().keys() {
        assert!(described.contains_key(name), "{path}: {name} is not described");
    }
}

#[tokio::test]
async fn answers_have_the_members_that_are_described() {
    let world = World::new().await;
    world.paired().await;
    check(&world, "/api/pairing/all", "Pairing", |all| all[0].clone()).await;
    check(&world, "/api/invites", "Invite", |list| list["invites"][0].clone()).await;
    check(&world, "/api/peers", "Peer", |list| list["peers"][0].clone()).await;
    check(&world, "/api/peers/operator", "Peer", Value::clone).await;
    check(&world, "/api/keys", "ApiKey", |list| list["keys"][0].clone()).await;
    check(&world, "/api/audit", "Entry", |list| list["entries"][0].clone()).await;
    check(&world, "/api/gateways", "Gateway", |list| list["gateways"][0].clone()).await;
    check(&world, "/api/pairing/changes/1", "Report", Value::clone).await;
}
