//! Rules of settings.

use super::*;

/// All later callers get what the first one brought, byte for byte.
pub async fn the_first_value_of_a_setting_stays(store: Fresh) {
    let first = [0, 255, b'\'', 10];
    assert_eq!(store.setting("key", &first).await.unwrap(), first);
    assert_eq!(store.setting("key", b"second").await.unwrap(), first);
    assert_eq!(store.setting("other", b"second").await.unwrap(), b"second");
    assert_eq!(store.version().await.unwrap(), Version(0), "a setting is no change of state");
}

/// Nodes that start at the same time end up with one key.
pub async fn of_many_first_values_one_becomes_the_setting(store: Fresh) {
    let values = race(20, |n| {
        let store = store.shared();
        async move { store.setting("key", format!("value {n}").as_bytes()).await.unwrap() }
    })
    .await;
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(store.setting("key", b"late").await.unwrap(), values[0]);
}

/// When all is well.
pub async fn a_store_answers_a_ping(store: Fresh) {
    store.ping().await.unwrap();
}
