//! Names are data: whatever they hold, they stay apart and mean nothing to Redis, Lua or the frames.

use std::collections::HashSet;

use heliograph_bus::Parcel;
use heliograph_bus::testing::mesh;
use heliograph_core::id::SpaceName;
use heliograph_sandbox::Redis;

use super::world::{Gateway, of_its_own, until};

const NAMES: [&str; 22] = [
    "a",
    "a b",
    " a",
    "a:b",
    ":",
    "{hg000}",
    "a}",
    "{",
    "ä",
    "中文 名字",
    "🦀",
    "it's",
    "%s%d%n",
    "*",
    "?",
    "[a-z]",
    "J 1 a",
    "L 1 2 a",
    "1",
    "-1",
    "nil",
    "]]--",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_name_is_listed_told_found_and_buried() {
    let redis = Redis::standalone().await.unwrap();
    let url = of_its_own(&redis.url());
    for name in ["a:b", "{hg000}", "ä {x} it's %d *"] {
        let mesh = SpaceName::parse(name).unwrap();
        // The node's name is no other's in Redis either.
        let (here, there) = (format!("{name}:1"), format!("gw {name}"));
        let (here, there) = tokio::join!(
            Gateway::start(&url, &here, mesh.clone()),
            Gateway::start(&url, &there, mesh.clone())
        );
        let gateway = there.presence().gateways().await.unwrap();
        assert!(gateway.len() >= 2, "{gateway:?}");
        for name in NAMES {
            there.register(name).await;
        }
        let listed = here.listed().await;
        assert_eq!(listed, NAMES, "by place");
        for name in NAMES {
            let found = here.presence().locate(&mesh, &super::world::peer(name)).await.unwrap().unwrap();
            assert_eq!(Some(found.epoch), there.session(name).map(|session| session.epoch), "{name}");
        }
        until("all were told", async || here.news().len() == NAMES.len()).await;
        let told: Vec<_> = here
            .news()
            .into_iter()
            .map(|parcel| match parcel {
                Parcel::Joined(member) => member.peer.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, NAMES);
        assert!(there.end("it's").await);
        there.die();
        until("all are gone", async || here.presence().online(&mesh).await.unwrap() == 0).await;
        until("all were told", async || here.departures().len() == NAMES.len()).await;
        let gone: HashSet<_> = here.departures().into_keys().collect();
        assert_eq!(gone, NAMES.into_iter().map(str::to_owned).collect());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meshes_are_apart() {
    let redis = Redis::standalone().await.unwrap();
    let url = of_its_own(&redis.url());
    let other = SpaceName::parse("default:x").unwrap();
    let (a, b) = tokio::join!(Gateway::start(&url, "a", mesh()), Gateway::start(&url, "b", other));
    a.register("x").await;
    b.register("x").await;
    assert_eq!((a.listed().await, b.listed().await), (vec!["x".to_owned()], vec!["x".to_owned()]));
    assert!(a.end("x").await);
    assert_eq!((a.listed().await, b.listed().await), (vec![], vec!["x".to_owned()]));
}
